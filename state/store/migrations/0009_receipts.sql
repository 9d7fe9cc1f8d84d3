-- What became of a run's thinking: why it stopped, which calls were not taken, and who answered its model calls.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.runs
  ADD COLUMN stop_reason text,
  ADD COLUMN duplicate_calls int NOT NULL DEFAULT 0,
  ADD COLUMN dropped_calls int NOT NULL DEFAULT 0,
  ADD COLUMN refused_calls int NOT NULL DEFAULT 0,
  ADD COLUMN answers jsonb NOT NULL DEFAULT '{}';

-- A model's name as a provider may write it, else "unknown": operators see it, so it carries no sentence.
CREATE FUNCTION mana_ai.model_word(p_text text) RETURNS text IMMUTABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN p_text ~ '^[A-Za-z0-9._:/@+-]{1,120}$' THEN p_text ELSE 'unknown' END;
END;

-- Keeps what a run knows of its model calls, in the transaction that ends it or lets it wait. Keys name a call: an answer
-- that a later attempt took from the journal is the same call, and what was noted first stands.
CREATE FUNCTION mana_ai.note_plan(p_run uuid, p_attempt int, p_answers jsonb, p_stop text, p_duplicates int, p_dropped int, p_refused int)
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

-- The receipt of a run: one entry per provider, model and exposure; costs are null where one of its calls has no known price.
CREATE FUNCTION mana_ai.receipt(p_answers jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT coalesce(jsonb_agg(jsonb_build_object('provider', g.provider, 'model', g.model, 'exposure', g.exposure,
                                               'calls', g.calls, 'tokens', g.tokens, 'cost_micros', g.cost_micros)
                            ORDER BY g.provider, g.model, g.exposure), '[]')
    FROM (SELECT a.value ->> 'provider' AS provider, a.value ->> 'model' AS model, a.value ->> 'exposure' AS exposure,
                 count(*) AS calls, sum((a.value ->> 'tokens')::bigint) AS tokens,
                 CASE WHEN count(a.value ->> 'cost_micros') = count(*) THEN sum((a.value ->> 'cost_micros')::bigint) END AS cost_micros
            FROM jsonb_each(p_answers) AS a GROUP BY 1, 2, 3) AS g;
END;

REVOKE ALL ON FUNCTION mana_ai.model_word(text), mana_ai.receipt(jsonb), mana_ai.note_plan(uuid, int, jsonb, text, int, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.note_plan(uuid, int, jsonb, text, int, int, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.receipt(jsonb) TO mana_fleet, mana_gateway, mana_supervisor;

GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
SET LOCAL ROLE mana_fleet;
CREATE OR REPLACE VIEW mana_ai.fleet_runs AS
  SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
         iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at,
         stop_reason, duplicate_calls, dropped_calls, refused_calls, mana_ai.receipt(answers) AS receipt
    FROM mana_ai.runs;
SET LOCAL ROLE mana_owner;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;

RESET ROLE;
