CREATE OR REPLACE FUNCTION mana_ai.request_copies(p_capability text, p_run uuid, p_attempt int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
  at timestamptz := clock_timestamp();
  given text;
  told text;
BEGIN
  IF run.lease_until <= at THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  SELECT s.record ->> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  given := encode(sha256(convert_to(coalesce(given, ''), 'UTF8')), 'hex');
  INSERT INTO mana_ai.copy_requests AS q (user_id, mission_id, asked_at, due_at, for_grant)
  VALUES (run.user_id, run.mission_id, at, at, given)
  ON CONFLICT (user_id, mission_id) DO UPDATE
     SET asked_at = at, for_grant = given, answer = CASE WHEN q.for_grant = given THEN q.answer END,
         due_at = CASE WHEN q.due_at IS NOT NULL THEN q.due_at
                       WHEN q.for_grant <> given THEN at
                       WHEN q.answer IN ('made', 'current') THEN greatest(at, q.answered_at + interval '10 seconds')
                       WHEN q.answered_at <= at - interval '10 minutes' THEN at END
  RETURNING q.answer INTO told;
  RETURN told;
END $$;

COMMENT ON FUNCTION mana_ai.request_copies IS
'Asks for copies for a live run''s own mission. Returns what the last request under this grant came to, or null. It is
due again ten seconds after copies were made, ten minutes after they could not be.';
ALTER FUNCTION mana_ai.request_copies OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.request_copies TO mana_agent;
