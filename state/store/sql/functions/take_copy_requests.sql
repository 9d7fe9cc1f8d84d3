CREATE OR REPLACE FUNCTION mana_ai.take_copy_requests(p_limit int, p_lease_s int) RETURNS TABLE (user_id text, mission_id text, taken uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH oldest AS MATERIALIZED (
    SELECT d.user_id, d.mission_id, d.due_at, row_number() OVER (PARTITION BY d.user_id ORDER BY d.due_at, d.mission_id) AS turn
      FROM (SELECT q.user_id, q.mission_id, q.due_at FROM mana_ai.copy_requests AS q
             WHERE q.due_at <= (SELECT clock_timestamp()) ORDER BY q.due_at LIMIT 1000) AS d),
  mine AS MATERIALIZED (
    SELECT q.user_id, q.mission_id FROM mana_ai.copy_requests AS q
      JOIN oldest AS o ON o.user_id = q.user_id AND o.mission_id = q.mission_id
     WHERE q.due_at <= (SELECT clock_timestamp())
     ORDER BY o.turn, o.due_at, q.user_id LIMIT p_limit FOR UPDATE OF q SKIP LOCKED)
  UPDATE mana_ai.copy_requests AS q
     SET taken = gen_random_uuid(), taken_at = clock_timestamp(), tries = q.tries + 1,
         due_at = clock_timestamp() + least(p_lease_s * (1 << least(q.tries, 10)), 3600) * interval '1 second'
    FROM mine WHERE q.user_id = mine.user_id AND q.mission_id = mine.mission_id
  RETURNING q.user_id, q.mission_id, q.taken;
END;

COMMENT ON FUNCTION mana_ai.take_copy_requests IS
'Takes the oldest requests for copies, one of each person before anybody''s second, for as long as a lease. One that
nobody answers comes back after its lease, each time later. It returns ids only.';
ALTER FUNCTION mana_ai.take_copy_requests OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.take_copy_requests TO mana_gateway;
