CREATE OR REPLACE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s int)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                       'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));
BEGIN
  IF octet_length(token) > mana_ai.capability_chars() - 1000 THEN
    RAISE EXCEPTION 'capability_too_long' USING ERRCODE = 'MA004';
  END IF;
  RETURN token;
END $$;

COMMENT ON FUNCTION mana_ai.sign_capability IS
'Signs a capability for an agent; only the supervisor may call this. It leaves a thousand characters for a renewal,
whose secret may have a longer name, and refuses what is too long here, so that somebody hears of it.';
ALTER FUNCTION mana_ai.sign_capability OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sign_capability TO mana_supervisor;
