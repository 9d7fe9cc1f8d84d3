CREATE OR REPLACE FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE mana_ai.runs SET stop_reason = mana_ai.model_word(p_note ->> 'stop'), duplicate_calls = coalesce((p_note ->> 'duplicates')::int, 0),
         dropped_calls = coalesce((p_note ->> 'dropped')::int, 0),
         refused_calls = coalesce((p_note ->> 'refused')::int, 0), answers = coalesce((
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
             FROM jsonb_each(p_note -> 'answers') AS a WHERE a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'), '{}') || answers
   WHERE run_id = p_run;
END $$;

COMMENT ON FUNCTION mana_ai.note_plan IS
'Stores what a run knows of its model calls, in the statement that ends it or lets it wait. Keys name a call. An answer
that a later attempt took from the journal is the same call, so what was stored first stands.';
ALTER FUNCTION mana_ai.note_plan OWNER TO mana_owner;
