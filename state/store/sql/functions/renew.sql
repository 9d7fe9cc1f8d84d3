CREATE OR REPLACE FUNCTION mana_ai.renew(p_runs uuid[], p_attempts int[], p_lease_ms int, OUT renewed uuid[], OUT capability text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  lease_ms int := least(p_lease_ms, 3600000);  -- whoever holds a capability cannot make it last for days
  until timestamptz := clock_timestamp() + lease_ms * interval '1 ms';
BEGIN
  WITH mine AS (
    UPDATE mana_ai.runs AS r SET lease_until = until FROM unnest(p_runs, p_attempts) AS k (run_id, attempt)
     WHERE r.run_id = k.run_id AND r.attempt = k.attempt AND r.state = 'open' AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a'
    RETURNING r.run_id, r.mission_id),
  looked AS (
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until FROM mine WHERE s.user_id = held ->> 'u' AND s.mission_id = mine.mission_id)
  SELECT array_agg(mine.run_id) INTO renewed FROM mine;
  IF renewed IS NOT NULL THEN
    capability := mana_ai.sign_payload((held - 'kid') || jsonb_build_object('exp',
      floor(extract(epoch FROM clock_timestamp()))::bigint + greatest(900, 2 * lease_ms / 1000)));
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.renew IS
'Extends the leases that are still the caller''s and returns those, with a capability that outlives them. One hour is
the most: a holder cannot make it last for days.';
ALTER FUNCTION mana_ai.renew OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.renew TO mana_agent;
