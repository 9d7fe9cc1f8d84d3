CREATE OR REPLACE FUNCTION mana_ai.acting_user() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN session_user = 'mana_agent' THEN mana_ai.capability() ->> 'u'
            ELSE current_setting('app.current_user_id', true) END;

COMMENT ON FUNCTION mana_ai.acting_user IS
'Whose rows a function owned by mana_owner may see. In an agent''s session that is the capability''s user, never a
setting: an agent can set any setting. In a trusted session (supervisor, gateway) it is the user named for this
transaction.';
ALTER FUNCTION mana_ai.acting_user OWNER TO mana_owner;
