-- Budgets: what operators allow beside the owners' own caps, in tokens and in money; what each call costs; when room
-- returns. One rule, `caps_of` and `budgets_of`, read by the check before a call, by the gate and by what people see.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.token_usage NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.token_holds NO FORCE ROW LEVEL SECURITY;
-- Money is in millionths of the alias file's currency.
ALTER TABLE mana_ai.token_usage ADD COLUMN cost_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE mana_ai.token_holds ADD COLUMN cost_micros bigint NOT NULL DEFAULT 0
  CONSTRAINT token_holds_cost CHECK (cost_micros >= 0);
ALTER TABLE mana_ai.token_usage FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.token_holds FORCE ROW LEVEL SECURITY;
CREATE INDEX token_usage_ts ON mana_ai.token_usage (ts) INCLUDE (tokens_used, cost_micros);
CREATE INDEX run_requests_closed ON mana_ai.run_requests (closed_at) WHERE closed_at IS NOT NULL;

-- Limits of the last 24 hours. `each-agent` is what an agent gets whose owner and operator say nothing else; a named
-- user's limit takes the place of `each-user`.
CREATE TABLE mana_ai.limits (
  kind text NOT NULL CONSTRAINT limits_kind CHECK (kind IN ('installation', 'each-user', 'each-agent', 'user', 'agent')),
  user_id text NOT NULL DEFAULT '',
  agent_id text NOT NULL DEFAULT '',
  tokens bigint CONSTRAINT limits_tokens CHECK (tokens >= 0),
  micros bigint CONSTRAINT limits_micros CHECK (micros >= 0),
  set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kind, user_id, agent_id),
  CONSTRAINT limits_named CHECK ((user_id <> '') = (kind IN ('user', 'agent')) AND (agent_id <> '') = (kind = 'agent')),
  CONSTRAINT limits_say_something CHECK (tokens IS NOT NULL OR micros IS NOT NULL));
ALTER TABLE mana_ai.limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.limits FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.limits TO mana_owner
  USING (user_id IN ('', (SELECT mana_ai.acting_user()))) WITH CHECK (user_id IN ('', (SELECT mana_ai.acting_user())));
CREATE POLICY fleet_reads ON mana_ai.limits FOR SELECT TO mana_gateway, mana_supervisor, mana_fleet USING (true);

-- Whose missions to look at again because a limit changed ('' = everybody's), and when: at once, and once more after a
-- minute for those that were deciding by the old limits meanwhile.
CREATE TABLE mana_ai.budget_wakes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  whose text NOT NULL,
  wake_at timestamptz NOT NULL);

-- The caps in force for an agent, its user and the installation; null is no cap.
CREATE FUNCTION mana_ai.caps_of(p_user text, p_agent text, OUT agent_tokens bigint, OUT agent_micros bigint, OUT agent_source text,
  OUT user_tokens bigint, OUT user_micros bigint, OUT installation_tokens bigint, OUT installation_micros bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN a.tokens IS NULL THEN coalesce(l.named, l.default_tokens) ELSE least(a.tokens, l.named) END,
         l.micros,
         CASE WHEN a.tokens <= coalesce(l.named, a.tokens) THEN 'owner' WHEN l.named IS NOT NULL THEN 'operator'
              WHEN l.default_tokens IS NOT NULL THEN 'default' ELSE 'none' END,
         l.user_tokens, l.user_micros, l.installation_tokens, l.installation_micros
    FROM (SELECT (SELECT s.max_tokens_per_day FROM mana_ai.agent_snapshots AS s WHERE s.user_id = p_user AND s.agent_id = p_agent)) AS a (tokens)
   CROSS JOIN (
         SELECT max(tokens) FILTER (WHERE kind = 'agent') AS named,
                max(tokens) FILTER (WHERE kind = 'each-agent') AS default_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'agent'), max(micros) FILTER (WHERE kind = 'each-agent')) AS micros,
                coalesce(max(tokens) FILTER (WHERE kind = 'user'), max(tokens) FILTER (WHERE kind = 'each-user')) AS user_tokens,
                coalesce(max(micros) FILTER (WHERE kind = 'user'), max(micros) FILTER (WHERE kind = 'each-user')) AS user_micros,
                max(tokens) FILTER (WHERE kind = 'installation') AS installation_tokens,
                max(micros) FILTER (WHERE kind = 'installation') AS installation_micros
           FROM mana_ai.limits WHERE user_id IN ('', p_user) AND agent_id IN ('', p_agent)) AS l;
END;

-- Sums over all users; usage and holds in one statement, so that a call being settled is in one of them and in one only.
CREATE FUNCTION mana_ai.installation_spent(p_since timestamptz, OUT used bigint, OUT held bigint, OUT micros_used bigint, OUT micros_held bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT u.tokens, h.tokens, u.micros, h.micros
    FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS u (tokens, micros),
         (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o) AS h (tokens, micros);
END;

-- When `p_need` of what all users spent (p_unit: tokens or money) will have left the window.
CREATE FUNCTION mana_ai.installation_room_at(p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT min(f.ts) + interval '24 hours'
    FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
            FROM mana_ai.token_usage AS t WHERE t.ts > p_since) AS f
   WHERE f.freed >= p_need;
END;

-- The same for one user, or one agent of the user.
CREATE FUNCTION mana_ai.room_at(p_scope text, p_user text, p_agent text, p_since timestamptz, p_unit text, p_need bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_scope = 'installation' THEN
    RETURN mana_ai.installation_room_at(p_since, p_unit, p_need);
  END IF;
  RETURN (SELECT min(f.ts) + interval '24 hours'
            FROM (SELECT t.ts, sum(CASE p_unit WHEN 'money' THEN t.cost_micros ELSE t.tokens_used END) OVER (ORDER BY t.ts, t.id) AS freed
                    FROM mana_ai.token_usage AS t
                   WHERE t.user_id = p_user AND (p_scope = 'user' OR t.agent_id = p_agent) AND t.ts > p_since) AS f
           WHERE f.freed >= p_need);
END $$;

-- What was spent in 24 hours, what is held, and the caps, for the scopes asked: 'agent' (always there), 'user' and
-- 'installation' where they are capped. Every sum comes from the caller's one snapshot.
CREATE FUNCTION mana_ai.budgets_of(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, source text, cap bigint, used bigint, held bigint, micros_cap bigint, micros_used bigint, micros_held bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  since timestamptz := clock_timestamp() - interval '24 hours';
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  IF 'agent' = ANY (p_scopes) THEN
    RETURN QUERY SELECT 'agent', caps.agent_source, caps.agent_tokens, u.tokens, h.tokens, caps.agent_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.agent_id = p_agent AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user AND o.agent_id = p_agent) AS h (tokens, micros);
  END IF;
  IF 'user' = ANY (p_scopes) AND (caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'user', 'operator', caps.user_tokens, u.tokens, h.tokens, caps.user_micros, u.micros, h.micros
      FROM (SELECT coalesce(sum(t.tokens_used), 0)::bigint, coalesce(sum(t.cost_micros), 0)::bigint FROM mana_ai.token_usage AS t
             WHERE t.user_id = p_user AND t.ts > since) AS u (tokens, micros),
           (SELECT coalesce(sum(o.tokens), 0)::bigint, coalesce(sum(o.cost_micros), 0)::bigint FROM mana_ai.token_holds AS o
             WHERE o.user_id = p_user) AS h (tokens, micros);
  END IF;
  IF 'installation' = ANY (p_scopes) AND (caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL) THEN
    RETURN QUERY SELECT 'installation', 'operator', caps.installation_tokens, i.used, i.held,
                        caps.installation_micros, i.micros_used, i.micros_held
      FROM mana_ai.installation_spent(since) AS i;
  END IF;
END $$;

-- The scope and unit that a hold does not fit, no row where it fits all. `until` says what can change that: 'change' of
-- a cap below this one hold, the 'window' (at back_at), or 'holds' that only have to be settled.
CREATE FUNCTION mana_ai.refusal(p_user text, p_agent text, p_scopes text[], p_hold bigint, p_micros bigint)
RETURNS TABLE (scope text, unit text, cap bigint, used bigint, held bigint, until text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit, x.cap, x.used, x.held, w.until, r.back_at
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used, b.held, p_hold),
                                ('money', b.micros_cap, b.micros_used, b.micros_held, p_micros)) AS x (unit, cap, used, held, asked)
     CROSS JOIN LATERAL (SELECT CASE WHEN x.asked > x.cap THEN 'change' WHEN x.used + x.asked > x.cap THEN 'window' ELSE 'holds' END) AS w (until)
     CROSS JOIN LATERAL (SELECT CASE w.until WHEN 'window' THEN
         mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used + x.asked - x.cap) END) AS r (back_at)
     WHERE x.used + x.held + x.asked > x.cap
     ORDER BY array_position(ARRAY['change', 'window', 'holds'], w.until), r.back_at DESC NULLS LAST LIMIT 1;
END $$;

-- The first scope with nothing left at all; no row where each has something.
CREATE FUNCTION mana_ai.used_up(p_user text, p_agent text, p_scopes text[])
RETURNS TABLE (scope text, unit text, back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.scope, x.unit,
           mana_ai.room_at(b.scope, p_user, p_agent, clock_timestamp() - interval '24 hours', x.unit, x.used - x.cap + 1)
      FROM mana_ai.budgets_of(p_user, p_agent, p_scopes) AS b
     CROSS JOIN LATERAL (VALUES ('tokens', b.cap, b.used), ('money', b.micros_cap, b.micros_used)) AS x (unit, cap, used)
     WHERE x.used >= x.cap AND (x.unit = 'tokens' OR x.used > 0)
     ORDER BY array_position(ARRAY['agent', 'user', 'installation'], b.scope), x.unit DESC LIMIT 1;
END $$;

-- What the gate asks about a due mission; sums nothing where nothing is capped.
CREATE FUNCTION mana_ai.standing_of(p_user text, p_agent text, OUT cap bigint, OUT used bigint, OUT back_at timestamptz,
  OUT full_scope text, OUT full_unit text, OUT full_back_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  caps record;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(p_user, p_agent);
  used := 0;
  IF caps.agent_tokens IS NOT NULL THEN
    SELECT b.cap, b.used INTO standing_of.cap, standing_of.used FROM mana_ai.budgets_of(p_user, p_agent, ARRAY['agent']) AS b;
    back_at := mana_ai.room_at('agent', p_user, p_agent, clock_timestamp() - interval '24 hours', 'tokens',
                               greatest(1, standing_of.used - standing_of.cap + 1));
  END IF;
  IF caps.agent_micros IS NOT NULL OR caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    SELECT f.scope, f.unit, f.back_at INTO full_scope, full_unit, full_back_at
      FROM mana_ai.used_up(p_user, p_agent, ARRAY['agent', 'user']) AS f;
  END IF;
END $$;

-- For an agent: its own budget, without what other agents and users spent.
CREATE FUNCTION mana_ai.own_budget(OUT cap bigint, OUT used bigint, OUT held bigint, OUT back_at timestamptz, OUT running int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability();
  u text := token ->> 'u';
  a text := token ->> 'a';
BEGIN
  SELECT b.cap, b.used, b.held INTO own_budget.cap, own_budget.used, own_budget.held
    FROM mana_ai.budgets_of(u, a, ARRAY['agent']) AS b;
  back_at := mana_ai.room_at('agent', u, a, clock_timestamp() - interval '24 hours', 'tokens',
                             greatest(1, own_budget.used - own_budget.cap + 1));
  running := (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
                 AND r.lease_until > clock_timestamp());
END $$;

-- One lock for whoever spends under the installation's limit, in a statement of its own like lock_ledger; no login may
-- take it by itself.
CREATE FUNCTION mana_ai.lock_installation() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM mana_ai.install FOR UPDATE;
END $$;

-- A place in every budget for one model call, or the journalled answer to the very same request (P5). Lock order:
-- installation, user (the ledger row without an agent), agent, run; the first two only where such a limit is set, and a
-- limit that is made in this very moment counts from the next call.
DROP FUNCTION mana_ai.begin_call(uuid, int, int, text, bigint, int);
CREATE FUNCTION mana_ai.begin_call(p_run uuid, p_attempt int, p_round int, p_hash text, p_hold bigint, p_deadline_ms int,
  p_micros bigint DEFAULT 0,
  OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint,
  OUT scope text, OUT unit text, OUT until text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token jsonb := mana_ai.require_capability();
  scopes text[] := ARRAY['agent'];
  caps record;
  run mana_ai.runs;
BEGIN
  SELECT * INTO caps FROM mana_ai.caps_of(token ->> 'u', token ->> 'a');
  IF caps.installation_tokens IS NOT NULL OR caps.installation_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_installation();
    scopes := scopes || 'installation'::text;
  END IF;
  IF caps.user_tokens IS NOT NULL OR caps.user_micros IS NOT NULL THEN
    PERFORM mana_ai.lock_ledger(token ->> 'u', '');
    scopes := scopes || 'user'::text;
  END IF;
  run := mana_ai.own_run(p_run, p_attempt);
  SELECT j.answer INTO begin_call.answer FROM mana_ai.journal AS j
   WHERE j.run_id = p_run AND j.round = p_round AND j.request_hash = p_hash;
  IF begin_call.answer IS NOT NULL THEN
    outcome := 'journaled'; RETURN;
  END IF;
  PERFORM mana_ai.charge_expired_holds(run.user_id, run.agent_id);
  SELECT h.call_id INTO begin_call.call_id FROM mana_ai.token_holds AS h
   WHERE h.run_id = p_run AND h.attempt = p_attempt AND h.round = p_round;
  IF begin_call.call_id IS NOT NULL THEN
    outcome := 'go'; RETURN;  -- asked again because the answer to the first asking was lost
  END IF;
  SELECT r.scope, r.unit, r.cap, r.used, r.held, r.until
    INTO begin_call.scope, begin_call.unit, begin_call.cap, begin_call.used, begin_call.held, begin_call.until
    FROM mana_ai.refusal(run.user_id, run.agent_id, scopes, p_hold, p_micros) AS r;
  IF begin_call.scope IS NOT NULL THEN
    outcome := 'no-room';
    IF begin_call.scope = 'installation' THEN  -- what all users spent is no agent's business
      begin_call.cap := NULL; begin_call.used := NULL; begin_call.held := NULL;
    END IF;
    RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, cost_micros, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, p_micros,
          clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

-- A hold past its call's deadline is charged whole, once: deleting it is what charges.
CREATE OR REPLACE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH expired AS (
    DELETE FROM mana_ai.token_holds WHERE user_id = p_user AND agent_id = p_agent AND deadline < clock_timestamp() RETURNING *)
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis, ts)
  SELECT user_id, agent_id, mission_id, tokens, cost_micros, run_id, call_id, round, 'expired-hold', opened_at FROM expired
  ON CONFLICT DO NOTHING;
END;

-- Looks again at the oldest mission of the agent that waits for nothing but holds to be settled.
CREATE FUNCTION mana_ai.wake_for_room(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.runs AS r
           JOIN mana_ai.mission_snapshots AS s ON s.user_id = r.user_id AND s.mission_id = r.mission_id
          WHERE r.user_id = p_user AND r.agent_id = p_agent AND r.state = 'waiting' AND r.waiting_for = 'holds'
            AND s.wake_at > clock_timestamp()
          ORDER BY r.due_at, r.mission_id LIMIT 1);
END;

-- The answer and what it cost, durable together. A superseded attempt is charged all the same, but journals nothing.
-- Null tokens: the provider reported no usage, the hold is charged; null micros: nobody knows the price of what was used.
-- basis: 'reported', 'above-hold' (more than was held: charged all the same), 'hold', 'expired-hold'.
DROP FUNCTION mana_ai.end_call(uuid, int, text, text, bigint);
CREATE FUNCTION mana_ai.end_call(p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint, p_micros bigint DEFAULT NULL,
  OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cap jsonb := mana_ai.require_capability();
  hold mana_ai.token_holds;
  is_reported boolean := coalesce(p_tokens >= 0, false);  -- nobody earns tokens back
BEGIN
  PERFORM mana_ai.lock_ledger(cap ->> 'u', cap ->> 'a');
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = cap ->> 'u' AND h.agent_id = cap ->> 'a' RETURNING * INTO hold;
  journaled := false;
  IF hold.call_id IS NULL THEN
    -- Its deadline passed, or the reply to the first asking was lost: what was charged then.
    charged := coalesce((SELECT t.tokens_used FROM mana_ai.token_usage AS t
                          WHERE t.call_id = p_call AND t.user_id = cap ->> 'u' AND t.agent_id = cap ->> 'a'), 0);
    RETURN;
  END IF;
  charged := CASE WHEN is_reported THEN p_tokens ELSE hold.tokens END;
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis)
  VALUES (hold.user_id, hold.agent_id, hold.mission_id, charged,
          CASE WHEN p_micros >= 0 THEN p_micros WHEN charged = 0 THEN 0 ELSE hold.cost_micros END,
          hold.run_id, hold.call_id, hold.round,
          CASE WHEN NOT is_reported THEN 'hold' WHEN charged > hold.tokens THEN 'above-hold' ELSE 'reported' END);
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged WHERE r.run_id = hold.run_id;
  PERFORM mana_ai.wake_for_room(hold.user_id, hold.agent_id);
  IF p_answer IS NOT NULL AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = hold.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (hold.run_id, hold.round, hold.user_id, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

-- Gives the place back until a hold of this size may fit: at the time the window says, soon after holds, or when a cap
-- changes. The mission's row is written before the caps are read again: a fold that changed them either was seen, or
-- comes after and wakes the mission itself. The run has no not_before: wake_at alone says when.
CREATE FUNCTION mana_ai.wait_for_room(p_run uuid, p_attempt int, p_hold bigint, p_micros bigint, p_reason text,
  OUT look_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  no record;
BEGIN
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = run.user_id AND mission_id = run.mission_id;
  SELECT * INTO no FROM mana_ai.refusal(run.user_id, run.agent_id, ARRAY['agent', 'user', 'installation'], p_hold, p_micros);
  look_at := CASE WHEN no.scope IS NULL THEN clock_timestamp()  -- there is room by now
                  WHEN no.until = 'holds' THEN clock_timestamp() + interval '5 seconds'
                  WHEN no.until = 'window' THEN greatest(no.back_at, clock_timestamp() + interval '1 second') END;
  UPDATE mana_ai.runs SET state = 'waiting', not_before = NULL, lease_until = NULL, reason = p_reason,
         waiting_for = CASE no.until WHEN 'holds' THEN 'holds' ELSE 'budget' END WHERE run_id = p_run;
  UPDATE mana_ai.mission_snapshots SET wake_at = look_at WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
END $$;

-- For the gateway: sets one limit; p_sets_* says which of the two, null lifts it.
CREATE FUNCTION mana_ai.set_limit(p_kind text, p_user text, p_agent text, p_tokens bigint, p_micros bigint, p_sets_tokens boolean, p_sets_micros boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before mana_ai.limits;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  DELETE FROM mana_ai.limits WHERE kind = p_kind AND user_id = p_user AND agent_id = p_agent RETURNING * INTO before;
  IF NOT p_sets_tokens THEN
    p_tokens := before.tokens;
  END IF;
  IF NOT p_sets_micros THEN
    p_micros := before.micros;
  END IF;
  IF p_tokens IS NOT NULL OR p_micros IS NOT NULL THEN
    INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens, micros) VALUES (p_kind, p_user, p_agent, p_tokens, p_micros)
    ON CONFLICT (kind, user_id, agent_id) DO UPDATE SET tokens = excluded.tokens, micros = excluded.micros, set_at = clock_timestamp();
  END IF;
  INSERT INTO mana_ai.budget_wakes (whose, wake_at)
  VALUES (p_user, clock_timestamp()), (p_user, clock_timestamp() + interval '1 minute');
END $$;

RESET ROLE;

REVOKE ALL ON mana_ai.limits, mana_ai.budget_wakes FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mana_ai FROM PUBLIC;
GRANT SELECT ON mana_ai.limits TO mana_gateway, mana_supervisor, mana_fleet;
GRANT SELECT, DELETE ON mana_ai.budget_wakes TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.caps_of(text, text), mana_ai.budgets_of(text, text, text[]),
  mana_ai.room_at(text, text, text, timestamptz, text, bigint), mana_ai.used_up(text, text, text[]), mana_ai.standing_of(text, text) TO mana_supervisor, mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.set_limit(text, text, text, bigint, bigint, boolean, boolean) TO mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.begin_call(uuid, int, int, text, bigint, int, bigint),
  mana_ai.end_call(uuid, int, text, text, bigint, bigint), mana_ai.own_budget(),
  mana_ai.wait_for_room(uuid, int, bigint, bigint, text) TO mana_agent;
-- Sums over all users are read as mana_fleet, for those who act on them; agents reach them only through begin_call.
GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
ALTER FUNCTION mana_ai.installation_spent(timestamptz) OWNER TO mana_fleet;
ALTER FUNCTION mana_ai.installation_room_at(timestamptz, text, bigint) OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT EXECUTE ON FUNCTION mana_ai.installation_spent(timestamptz), mana_ai.installation_room_at(timestamptz, text, bigint)
  TO mana_owner, mana_supervisor, mana_gateway;
