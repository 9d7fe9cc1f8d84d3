CREATE OR REPLACE FUNCTION mana_ai.capability_user() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'u';

COMMENT ON FUNCTION mana_ai.capability_user IS
'The user of this transaction''s capability, or null.';
ALTER FUNCTION mana_ai.capability_user OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.capability_user TO mana_agent;
