CREATE OR REPLACE FUNCTION mana_ai.acting_user() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named text := current_setting('app.current_user_id', true);
  until text;
BEGIN
  IF session_user <> 'mana_agent' THEN
    RETURN named;
  END IF;
  until := current_setting('app.capability_until', true);
  IF current_setting('app.capability_proof', true) = mana_ai.capability_proof(named, until) THEN
    RETURN CASE WHEN until::bigint > extract(epoch FROM clock_timestamp()) THEN named END;
  END IF;
  RETURN mana_ai.capability() ->> 'u';
END $$;

COMMENT ON FUNCTION mana_ai.acting_user IS
'Whose rows a function owned by mana_owner may see. In an agent''s session that is the capability''s user, never a
setting: an agent can set any setting. Every statement of ours asks, so what require_capability has verified is not
verified again while its proof holds. In a trusted session (supervisor, gateway) it is the user named for this
transaction.';
ALTER FUNCTION mana_ai.acting_user OWNER TO mana_owner;
