CREATE OR REPLACE FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked mana_ai.copy_requests;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO asked FROM mana_ai.copy_requests AS q
   WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken FOR UPDATE;
  IF asked.taken IS NULL THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.copy_requests AS q
     SET answer = p_answer, answered_at = clock_timestamp(), tries = 0, taken = NULL,
         due_at = CASE WHEN asked.asked_at > asked.taken_at THEN clock_timestamp() END
   WHERE q.user_id = p_user AND q.mission_id = p_mission;
  IF p_answer NOT IN ('made', 'current') AND p_answer IS DISTINCT FROM asked.answer THEN
    UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
     WHERE user_id = p_user AND mission_id = p_mission;
  END IF;
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.answer_copies IS
'Notes what became of a request for copies; only whoever still holds it may say so. A request repeated while it was
worked on is due again. News that no copies were made has the mission looked at again, so that its owner is told why;
copies that were made wake the mission themselves.';
ALTER FUNCTION mana_ai.answer_copies OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.answer_copies TO mana_gateway;
