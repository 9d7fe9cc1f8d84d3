-- A key is asked for only where a model call can follow (D-39), and a run that is skipped after its claim leaves one decision.
SET LOCAL ROLE mana_owner;

-- Whether a call of this size has room now: outcome `go` or `no-room`, the rest as begin_call says it. A run that has
-- answers already goes on whatever is left: it keeps the plan it has.
CREATE FUNCTION mana_ai.room_for_call(p_run uuid, p_attempt int, p_hold bigint, p_micros bigint,
  OUT outcome text, OUT used bigint, OUT held bigint, OUT cap bigint, OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  outcome := 'go';
  IF EXISTS (SELECT FROM mana_ai.journal AS j WHERE j.run_id = p_run) THEN
    RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT 'no-room', r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO outcome, scope, unit, cap, used, held, until
    FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros) AS r;
  outcome := coalesce(outcome, 'go');
  IF scope = 'installation' THEN  -- what all users spent is no agent's business
    cap := NULL; used := NULL; held := NULL;
  END IF;
END $$;

-- Closes a run that must not be planned, with the decision that its owner is to see in place of `withdrawn`; says whether
-- that is news. A mission that is skipped again for the same reason keeps its one row.
CREATE FUNCTION mana_ai.skip_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  is_news boolean;
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  SELECT (s.decision, s.reason) IS DISTINCT FROM ('skipped-grant', p_reason) INTO is_news
    FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  IF is_news THEN
    PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'skipped-grant', p_reason);
  END IF;
  RETURN coalesce(is_news, false);
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.room_for_call(uuid, int, bigint, bigint), mana_ai.skip_run(uuid, int, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.room_for_call(uuid, int, bigint, bigint), mana_ai.skip_run(uuid, int, text, timestamptz) TO mana_agent;
