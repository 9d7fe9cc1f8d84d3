CREATE OR REPLACE FUNCTION mana_ai.note_plan(p_run uuid, p_attempt int, p_answers jsonb, p_stop text, p_duplicates int, p_dropped int, p_refused int)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  UPDATE mana_ai.runs SET stop_reason = mana_ai.model_word(p_stop), duplicate_calls = p_duplicates, dropped_calls = p_dropped,
         refused_calls = p_refused, answers = coalesce((
           SELECT jsonb_object_agg(a.key, jsonb_build_object(
                    'provider', mana_ai.model_word(a.value ->> 'provider'), 'model', mana_ai.model_word(a.value ->> 'model'),
                    'exposure', CASE WHEN a.value ->> 'exposure' IN ('local', 'eu', 'any') THEN a.value ->> 'exposure' ELSE '' END,
                    'tokens', (a.value ->> 'tokens')::bigint, 'cost_micros', (a.value ->> 'cost_micros')::bigint))
             FROM jsonb_each(p_answers) AS a WHERE a.key ~ '^[0-9]{1,7}([.][0-9]{1,7})?$'), '{}') || run.answers
   WHERE run_id = p_run;
END $$;

COMMENT ON FUNCTION mana_ai.note_plan IS
'Stores what a run knows of its model calls, in the transaction that ends it or lets it wait. Keys name a call. An
answer that a later attempt took from the journal is the same call, so what was stored first stands.';
ALTER FUNCTION mana_ai.note_plan OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.note_plan TO mana_agent;
