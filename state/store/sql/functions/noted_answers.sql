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
           'completion_tokens', coalesce((a.value ->> 'completion_tokens')::bigint, 0),
           'took_ms', coalesce((a.value ->> 'took_ms')::bigint, 0),
           'refused', (SELECT coalesce(jsonb_agg(mana_ai.model_word(t.name)), '[]') FROM (
              SELECT * FROM jsonb_array_elements_text(CASE jsonb_typeof(a.value -> 'refused') WHEN 'array' THEN a.value -> 'refused'
                ELSE '[]' END) AS e (name) LIMIT 50) AS t),
           'tools', (SELECT coalesce(jsonb_agg(mana_ai.model_word(t.name)), '[]') FROM (
              SELECT * FROM jsonb_array_elements_text(CASE jsonb_typeof(a.value -> 'tools') WHEN 'array' THEN a.value -> 'tools'
                ELSE '[]' END) AS e (name) LIMIT 50) AS t),
           'parts', (SELECT coalesce(jsonb_object_agg(t.part, t.tokens), '{}') FROM (
              SELECT e.key AS part, e.value::bigint AS tokens FROM jsonb_each(CASE jsonb_typeof(a.value -> 'parts') WHEN 'object'
                THEN a.value -> 'parts' ELSE '{}' END) AS e WHERE e.key ~ '^[a-z]{1,12}$' AND jsonb_typeof(e.value) = 'number' LIMIT 12) AS t),
           'inputs', (SELECT coalesce(jsonb_agg(t.tokens ORDER BY t.place), '[]') FROM (
              SELECT e.value::bigint AS tokens, e.place FROM jsonb_array_elements(CASE jsonb_typeof(a.value -> 'inputs') WHEN 'array'
                THEN a.value -> 'inputs' ELSE '[]' END) WITH ORDINALITY AS e (value, place)
               WHERE jsonb_typeof(e.value) = 'number' LIMIT 100) AS t)))
    FROM jsonb_each(p_answers) AS a WHERE a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'), '{}');

COMMENT ON FUNCTION mana_ai.noted_answers IS
'What a run says of its model calls, by call, with nothing in it but numbers and words that names are made of.';
ALTER FUNCTION mana_ai.noted_answers OWNER TO mana_owner;
