CREATE OR REPLACE FUNCTION mana_ai.note_plan(p_run uuid, p_note jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE mana_ai.runs SET stop_reason = mana_ai.model_word(p_note ->> 'stop'), duplicate_calls = coalesce((p_note ->> 'duplicates')::int, 0),
         dropped_calls = coalesce((p_note ->> 'dropped')::int, 0),
         refused_calls = coalesce((p_note ->> 'refused')::int, 0),
         answers = (
           SELECT coalesce(jsonb_object_agg(coalesce(o.key, n.key), coalesce(o.value, n.value)
                                            || CASE WHEN n.key IS NULL THEN '{}' ELSE jsonb_build_object('refused', n.value -> 'refused') END), '{}')
             FROM jsonb_each(answers) AS o FULL JOIN jsonb_each(mana_ai.noted_answers(p_note -> 'answers')) AS n ON n.key = o.key)
   WHERE run_id = p_run;
END $$;

COMMENT ON FUNCTION mana_ai.note_plan IS
'Stores what a run knows of its model calls, in the statement that ends it or lets it wait. Keys name a call. An answer
that a later attempt took from the journal is the same call, so what was stored first stands; which of its tools came back
as failed is known only now.';
ALTER FUNCTION mana_ai.note_plan OWNER TO mana_owner;
