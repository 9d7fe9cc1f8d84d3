CREATE OR REPLACE FUNCTION mana_ai.noted_answers(p_answers jsonb) RETURNS jsonb IMMUTABLE
LANGUAGE sql SET search_path = pg_catalog, pg_temp
RETURN coalesce((
  SELECT jsonb_object_agg(a.key, jsonb_build_object(
           'provider', mana_ai.model_word(a.value ->> 'provider'), 'model', mana_ai.model_word(a.value ->> 'model'),
           'exposure', CASE WHEN a.value ->> 'exposure' IN ('local', 'eu', 'any') THEN a.value ->> 'exposure' ELSE '' END,
           'tokens', (a.value ->> 'tokens')::bigint, 'cost_micros', (a.value ->> 'cost_micros')::bigint,
           'cached_tokens', coalesce((a.value ->> 'cached_tokens')::bigint, 0),
           'carried_lost', coalesce((a.value ->> 'carried_lost')::bigint, 0),
           'wasted_tokens', coalesce((a.value ->> 'wasted_tokens')::bigint, 0),
           'tools', (SELECT coalesce(jsonb_agg(mana_ai.model_word(t.name)), '[]') FROM (
              SELECT * FROM jsonb_array_elements_text(CASE jsonb_typeof(a.value -> 'tools') WHEN 'array' THEN a.value -> 'tools'
                ELSE '[]' END) AS e (name) LIMIT 50) AS t)))
    FROM jsonb_each(p_answers) AS a WHERE a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'), '{}');

COMMENT ON FUNCTION mana_ai.noted_answers IS
'What a run says of its model calls, by call, with nothing in it but numbers and words that names are made of.';
ALTER FUNCTION mana_ai.noted_answers OWNER TO mana_owner;
