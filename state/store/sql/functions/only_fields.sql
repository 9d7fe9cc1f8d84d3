CREATE OR REPLACE FUNCTION mana_ai.only_fields(p_value jsonb, p_names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_value) = 'object'
       THEN (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(p_value) AS e WHERE e.key = ANY (p_names))
       ELSE p_value END;

COMMENT ON FUNCTION mana_ai.only_fields IS
'An object reduced to these fields. Anything else is returned as it is, so that the merge sets it aside.';
ALTER FUNCTION mana_ai.only_fields OWNER TO mana_owner;
