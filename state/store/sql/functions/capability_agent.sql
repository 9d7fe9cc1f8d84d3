CREATE OR REPLACE FUNCTION mana_ai.capability_agent() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'a';

COMMENT ON FUNCTION mana_ai.capability_agent IS
'The agent of this transaction''s capability, or null.';
ALTER FUNCTION mana_ai.capability_agent OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.capability_agent TO mana_agent;
