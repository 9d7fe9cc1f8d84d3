CREATE OR REPLACE FUNCTION mana_ai.capability_scope() RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT jsonb_array_elements_text(mana_ai.capability() -> 'sc'));

COMMENT ON FUNCTION mana_ai.capability_scope IS
'What the capability''s scope lists outside app "ai", as "app/table/record".';
ALTER FUNCTION mana_ai.capability_scope OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.capability_scope TO mana_agent;
