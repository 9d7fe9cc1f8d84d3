CREATE OR REPLACE FUNCTION mana_ai.only_keys(p_value jsonb, p_keys text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_value) = 'object'
       THEN (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(p_value) AS e WHERE e.key = ANY (p_keys))
       ELSE p_value END;

COMMENT ON FUNCTION mana_ai.only_keys IS
'An object reduced to these keys. Anything else is returned as it is, so that the merge sets it aside.';
ALTER FUNCTION mana_ai.only_keys OWNER TO mana_owner;
