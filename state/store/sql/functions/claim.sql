CREATE OR REPLACE FUNCTION mana_ai.claim(p_capability text, p_claim uuid, p_mission text, p_due timestamptz, p_lease_ms int, p_holder text,
  p_pinned jsonb, p_mission_version bigint DEFAULT NULL, p_agent_version bigint DEFAULT NULL, p_time_zone text DEFAULT NULL,
  p_inputs jsonb DEFAULT '[]',
  OUT outcome text, OUT run_id uuid, OUT attempt int, OUT due_at timestamptz, OUT look_at timestamptz, OUT pinned jsonb,
  OUT failures int, OUT lost int, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text,
  OUT record jsonb, OUT inputs jsonb, OUT now timestamptz)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  room int := 65536;
  u text;
BEGIN
  SELECT t.outcome, t.run_id, t.attempt, t.due_at, t.look_at, t.pinned, t.failures, t.lost, t.requested,
         t.mission_version, t.agent_version, t.time_zone
    INTO claim.outcome, claim.run_id, claim.attempt, claim.due_at, claim.look_at, claim.pinned, claim.failures, claim.lost, claim.requested,
         claim.mission_version, claim.agent_version, claim.time_zone
    FROM mana_ai.take_run(p_capability, p_claim, p_mission, p_due, p_lease_ms, p_holder, p_pinned,
                          p_mission_version, p_agent_version, p_time_zone) AS t;
  IF claim.outcome = 'claimed' THEN
    u := mana_ai.capability_user();
    -- A statement of its own: it reads under the caller's policies with the capability that the one before presented.
    SELECT CASE WHEN octet_length(s.record::text) <= room THEN s.record END INTO claim.record
      FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission;
    inputs := '[]';
    IF p_inputs <> '[]' THEN
      room := room - coalesce(octet_length(claim.record::text), 0);
      WITH asked AS MATERIALIZED (
        SELECT i.place, i.value ->> 0 AS app, i.value ->> 1 AS of_table, i.value ->> 2 AS record_id
          FROM jsonb_array_elements(p_inputs) WITH ORDINALITY AS i (value, place)),
      stored AS MATERIALIZED (  -- as stored, so that nothing large is unpacked only to be measured
        SELECT a.*, (SELECT coalesce(sum(coalesce(pg_column_size(c.data), 0) + coalesce(pg_column_size(c.field_meta), 0)), 0) FROM public.sync_changes AS c
                      WHERE c.user_id = u AND c.app_id = a.app AND c.table_name = a.of_table
                        AND c.record_id = a.record_id) AS size
          FROM asked AS a),
      read AS MATERIALIZED (
        SELECT s.place, (SELECT coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text,
                                  'field_meta', c.field_meta::text, 'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint)
                                  ORDER BY c.created_at, c.id), '[]') FROM public.sync_changes AS c
                          WHERE c.user_id = u AND c.app_id = s.app AND c.table_name = s.of_table
                            AND c.record_id = s.record_id) AS changes
          FROM stored AS s WHERE s.size <= room)
      SELECT coalesce(jsonb_agg(sized.changes ORDER BY a.place), '[]') INTO claim.inputs
        FROM asked AS a LEFT JOIN (
             SELECT r.place, CASE WHEN sum(octet_length(r.changes::text)) OVER (ORDER BY r.place) <= room THEN r.changes END AS changes
               FROM read AS r) AS sized ON sized.place = a.place;
    END IF;
  END IF;
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.claim IS
'Takes an occurrence (take_run) and returns what its run reads first: the mission''s record and the log rows of the inputs
asked for ([app, table, record] each), 64 KiB together at most. What is larger is null, and read after it: a client that
leaves a large answer unread keeps the locks. It runs as its caller, so the policies decide what it reads; a definer that
read inputs returned another user''s note.';
ALTER FUNCTION mana_ai.claim OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.claim TO mana_agent;
