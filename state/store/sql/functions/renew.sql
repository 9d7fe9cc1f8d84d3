CREATE OR REPLACE FUNCTION mana_ai.renew(p_capability text, p_runs uuid[], p_attempts int[], p_lease_ms int,
  OUT renewed uuid[], OUT capability text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  lease_ms int := least(p_lease_ms, 3600000);  -- whoever holds a capability cannot make it last for days
  until timestamptz;
  missions text[];
BEGIN
  SELECT array_agg(k.run_id), array_agg(k.mission_id) INTO renewed, missions FROM (
    SELECT r.run_id, r.mission_id FROM mana_ai.runs AS r JOIN unnest(p_runs, p_attempts) AS k (run_id, attempt)
        ON r.run_id = k.run_id AND r.attempt = k.attempt
     WHERE r.state = 'open' AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' ORDER BY r.run_id FOR UPDATE OF r) AS k;
  until := clock_timestamp() + lease_ms * interval '1 ms';
  IF renewed IS NOT NULL THEN
    PERFORM FROM mana_ai.mission_snapshots AS s
      WHERE s.user_id = held ->> 'u' AND s.mission_id = ANY (missions) ORDER BY s.mission_id FOR UPDATE;
    UPDATE mana_ai.runs AS r SET lease_until = until WHERE r.run_id = ANY (renewed);
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until WHERE s.user_id = held ->> 'u' AND s.mission_id = ANY (missions);
    capability := mana_ai.sign_payload((held - 'kid') || jsonb_build_object('exp',
      floor(extract(epoch FROM clock_timestamp()))::bigint + greatest(900, 2 * lease_ms / 1000)));
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.renew IS
'Extends the leases that are still the caller''s and returns those, with a capability that outlives them. One hour is
the most: a holder cannot make it last for days. All runs are locked before any snapshot: locked in turns, they met a commit
of the same agent that holds its run and wakes another mission.';
ALTER FUNCTION mana_ai.renew OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.renew TO mana_agent;
