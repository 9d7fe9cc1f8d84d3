CREATE OR REPLACE FUNCTION mana_ai.only_state(p_fields jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN jsonb_typeof(p_fields) = 'object' THEN
  coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(p_fields) WHERE key IN ('state', 'deletedAt')), '{}') END;

COMMENT ON FUNCTION mana_ai.only_state IS
'An object reduced to state and deletedAt; null for anything else.';
ALTER FUNCTION mana_ai.only_state OWNER TO mana_owner;
