CREATE OR REPLACE FUNCTION mana_ai.keys_capability(p_capability text, p_run uuid, p_attempt int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_capability, p_run, p_attempt);
BEGIN
  RETURN mana_ai.sign_payload(jsonb_build_object('u', run.user_id, 'a', run.agent_id, 'm', run.mission_id, 'run', p_run,
    'attempt', p_attempt, 'aud', 'keys', 'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + 60));
END $$;

COMMENT ON FUNCTION mana_ai.keys_capability IS
'Signs a capability for the key holder: for this run''s attempt alone, and for one minute.';
ALTER FUNCTION mana_ai.keys_capability OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.keys_capability TO mana_agent;
