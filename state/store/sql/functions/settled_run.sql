CREATE OR REPLACE FUNCTION mana_ai.settled_run(p_capability text, p_run uuid, p_attempt int, p_call text,
  OUT run_id uuid, OUT is_open boolean, OUT charged bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  run mana_ai.runs;
  call record;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs AS r
   WHERE r.run_id = p_run AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a' FOR UPDATE;
  PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = held ->> 'u' AND s.mission_id = run.mission_id FOR UPDATE;
  IF p_call IS NOT NULL THEN
    BEGIN
      SELECT * INTO call
        FROM jsonb_to_record(p_call::jsonb) AS c (call_id uuid, attempt int, digest text, answer text, tokens bigint, micros bigint);
      SELECT s.charged INTO settled_run.charged
        FROM mana_ai.settle(held ->> 'u', held ->> 'a', call.call_id, call.attempt, call.digest, call.answer, call.tokens, call.micros) AS s;
    EXCEPTION WHEN data_exception THEN
      charged := NULL;  -- it says nothing that can be read: the hold is charged at its deadline
    END;
  END IF;
  run_id := run.run_id;
  is_open := coalesce(run.attempt = p_attempt AND run.state = 'open', false);
END $$;

COMMENT ON FUNCTION mana_ai.settled_run IS
'The caller''s run, for one of its endings: locked with its mission after the ledger, and its last answer settled
whatever becomes of the run. is_open says whether this attempt may still end it. The tokens charged are null where
nothing was to settle.';
ALTER FUNCTION mana_ai.settled_run OWNER TO mana_owner;
