-- What an agent may do, as functions: each takes user and agent from the capability, never from an argument.
-- Lock order everywhere: ledger, then run. Errors: MA001 capability_invalid, MA002 superseded.
SET LOCAL ROLE mana_owner;

-- Locks the agent's ledger row, in a statement of its own so that what follows reads what the previous holder wrote.
CREATE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

-- A hold past its call's deadline is charged whole, once: deleting it is what charges.
CREATE FUNCTION mana_ai.charge_expired_holds(p_user text, p_agent text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH expired AS (
    DELETE FROM mana_ai.token_holds WHERE user_id = p_user AND agent_id = p_agent AND deadline < clock_timestamp() RETURNING *)
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, run_id, call_id, round, basis, ts)
  SELECT user_id, agent_id, mission_id, tokens, run_id, call_id, round, 'expired-hold', opened_at FROM expired
  ON CONFLICT DO NOTHING;
END;

-- Looks again at the oldest mission of the agent that waits for the place which p_mission leaves: not at one that has
-- a place or sits out a back-off, though it may have been told to wait for a place before.
CREATE FUNCTION mana_ai.wake_next(p_user text, p_agent text, p_mission text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = (
         SELECT s.mission_id FROM mana_ai.mission_snapshots AS s
          WHERE s.user_id = p_user AND s.agent_id = p_agent AND s.mission_id <> p_mission
            AND s.decision = 'skipped-concurrency' AND s.wake_at > clock_timestamp()
            AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = s.mission_id
                               AND (r.state = 'open' OR r.state = 'waiting' AND r.not_before > clock_timestamp()))
          ORDER BY s.next_run_at NULLS FIRST, s.mission_id LIMIT 1);
END;

-- Keeps the newest decision with the mission, and the history of those that changed something.
CREATE FUNCTION mana_ai.note_decision(p_user text, p_mission text, p_agent text, p_due timestamptz, p_decision text, p_reason text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)
  VALUES (p_user, p_mission, p_agent, p_due, p_decision, p_reason);
  UPDATE mana_ai.mission_snapshots SET decision = p_decision, reason = p_reason, decided_at = clock_timestamp()
   WHERE user_id = p_user AND mission_id = p_mission;
END;

-- The caller's run, locked, if this attempt is still the one; raises MA002 otherwise.
CREATE FUNCTION mana_ai.own_run(p_run uuid, p_attempt int) RETURNS mana_ai.runs LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  run mana_ai.runs;
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  SELECT * INTO run FROM mana_ai.runs
   WHERE run_id = p_run AND user_id = held ->> 'u' AND agent_id = held ->> 'a' FOR UPDATE;
  IF run.run_id IS NULL OR run.attempt <> p_attempt OR run.state <> 'open' THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  RETURN run;
END $$;

CREATE FUNCTION mana_ai.claim(p_mission text, p_due timestamptz, p_lease_ms int, p_holder text, p_pinned jsonb,
  OUT outcome text, OUT run_id uuid, OUT attempt int, OUT due_at timestamptz, OUT look_at timestamptz, OUT pinned jsonb,
  OUT failures int, OUT lost int, OUT requested boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  u text := held ->> 'u';
  a text := held ->> 'a';
  mission mana_ai.mission_snapshots;
  live mana_ai.runs;
  slot mana_ai.runs;
  is_request boolean;
BEGIN
  PERFORM mana_ai.lock_ledger(u, a);
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission;
  IF mission.mission_id IS NULL OR mission.agent_id <> a OR mission.hidden OR NOT mission.complete OR mission.state <> 'active' THEN
    outcome := 'unwanted'; RETURN;
  END IF;
  SELECT * INTO live FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.state IN ('open', 'waiting') FOR UPDATE;
  due_at := p_due;
  IF live.run_id IS NOT NULL THEN
    IF live.state = 'open' AND live.lease_until > clock_timestamp() THEN
      outcome := 'held'; look_at := live.lease_until; RETURN;
    END IF;
    IF live.due_at = mission.next_run_at OR EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u
         AND q.mission_id = p_mission AND q.due_at = live.due_at AND q.closed_at IS NULL) THEN
      due_at := live.due_at;  -- one live run per mission: finish that occurrence first
      IF live.state = 'waiting' AND live.not_before > clock_timestamp() THEN
        outcome := 'waiting'; look_at := live.not_before; RETURN;
      END IF;
    ELSE
      UPDATE mana_ai.runs AS r SET state = 'withdrawn', reason = 'the owner moved the next run', closed_at = clock_timestamp()
       WHERE r.run_id = live.run_id;
      DELETE FROM mana_ai.journal AS j WHERE j.run_id = live.run_id;
      live := NULL;
    END IF;
  END IF;
  is_request := EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = p_mission
                           AND q.due_at = claim.due_at AND q.closed_at IS NULL);
  IF NOT is_request AND claim.due_at IS DISTINCT FROM mission.next_run_at THEN
    outcome := 'stale'; RETURN;
  END IF;
  IF claim.due_at > clock_timestamp() THEN
    outcome := 'early'; look_at := claim.due_at; RETURN;
  END IF;
  SELECT * INTO slot FROM mana_ai.runs AS r
   WHERE r.user_id = u AND r.mission_id = p_mission AND r.due_at = claim.due_at FOR UPDATE;
  IF slot.state IN ('committed', 'failed') THEN
    outcome := 'served'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
         AND r.lease_until > clock_timestamp() AND r.mission_id <> p_mission)
     >= coalesce((SELECT max_concurrent FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a), 1) THEN
    outcome := 'concurrency'; RETURN;
  END IF;
  INSERT INTO mana_ai.runs AS r (user_id, agent_id, mission_id, due_at, state, requested, holder, lease_until, pinned)
  VALUES (u, a, p_mission, claim.due_at, 'open', is_request, p_holder,
          clock_timestamp() + least(p_lease_ms, 3600000) * interval '1 ms', p_pinned)
  ON CONFLICT ON CONSTRAINT runs_one_per_occurrence DO UPDATE
     SET state = 'open', agent_id = a, attempt = r.attempt + 1, lost = r.lost + (r.state = 'open')::int, holder = excluded.holder, lease_until = excluded.lease_until,
         pinned = coalesce(r.pinned, excluded.pinned), claimed_at = clock_timestamp(), closed_at = NULL, not_before = NULL,
         waiting_for = NULL, reason = NULL
  RETURNING r.run_id, r.attempt, r.lease_until, r.pinned, r.failures, r.lost, r.requested
       INTO claim.run_id, claim.attempt, claim.look_at, claim.pinned, claim.failures, claim.lost, claim.requested;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = claim.look_at WHERE s.user_id = u AND s.mission_id = p_mission;
  outcome := 'claimed';
END $$;

-- Extends the leases that are still the caller's and returns those, with a capability that outlives them.
CREATE FUNCTION mana_ai.renew(p_runs uuid[], p_attempts int[], p_lease_ms int, OUT renewed uuid[], OUT capability text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
  lease_ms int := least(p_lease_ms, 3600000);  -- whoever holds a capability cannot make it last for days
  until timestamptz := clock_timestamp() + lease_ms * interval '1 ms';
BEGIN
  WITH mine AS (
    UPDATE mana_ai.runs AS r SET lease_until = until FROM unnest(p_runs, p_attempts) AS k (run_id, attempt)
     WHERE r.run_id = k.run_id AND r.attempt = k.attempt AND r.state = 'open' AND r.user_id = held ->> 'u' AND r.agent_id = held ->> 'a'
    RETURNING r.run_id, r.mission_id),
  looked AS (
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until FROM mine WHERE s.user_id = held ->> 'u' AND s.mission_id = mine.mission_id)
  SELECT array_agg(mine.run_id) INTO renewed FROM mine;
  IF renewed IS NOT NULL THEN
    capability := mana_ai.sign_payload((held - 'kid') || jsonb_build_object('exp',
      floor(extract(epoch FROM clock_timestamp()))::bigint + greatest(900, 2 * lease_ms / 1000)));
  END IF;
END $$;

-- A place in the budget for one model call, or the journalled answer to the very same request (P5).
CREATE FUNCTION mana_ai.begin_call(p_run uuid, p_attempt int, p_round int, p_hash text, p_hold bigint, p_deadline_ms int,
  OUT outcome text, OUT call_id uuid, OUT answer text, OUT used bigint, OUT held bigint, OUT cap bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
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
  SELECT coalesce(sum(t.tokens_used), 0) INTO used FROM mana_ai.token_usage AS t
   WHERE t.user_id = run.user_id AND t.agent_id = run.agent_id AND t.ts > clock_timestamp() - interval '24 hours';
  SELECT coalesce(sum(h.tokens), 0) INTO begin_call.held FROM mana_ai.token_holds AS h
   WHERE h.user_id = run.user_id AND h.agent_id = run.agent_id;
  SELECT s.max_tokens_per_day INTO cap FROM mana_ai.agent_snapshots AS s
   WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id;
  IF cap IS NOT NULL AND used + begin_call.held + p_hold > cap THEN
    outcome := 'no-room'; RETURN;
  END IF;
  INSERT INTO mana_ai.token_holds AS h (user_id, agent_id, mission_id, run_id, attempt, round, tokens, deadline)
  VALUES (run.user_id, run.agent_id, run.mission_id, p_run, p_attempt, p_round, p_hold, clock_timestamp() + p_deadline_ms * interval '1 ms')
  RETURNING h.call_id INTO begin_call.call_id;
  UPDATE mana_ai.runs AS r SET model_calls = r.model_calls + 1 WHERE r.run_id = p_run;
  outcome := 'go';
END $$;

-- The answer and what it cost, durable together. A superseded attempt is charged all the same, but journals nothing.
-- p_tokens null: the provider reported no usage, the hold is charged.
CREATE FUNCTION mana_ai.end_call(p_call uuid, p_attempt int, p_hash text, p_answer text, p_tokens bigint,
  OUT charged bigint, OUT journaled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  cap jsonb := mana_ai.require_capability();
  hold mana_ai.token_holds;
BEGIN
  PERFORM mana_ai.lock_ledger(cap ->> 'u', cap ->> 'a');
  DELETE FROM mana_ai.token_holds AS h WHERE h.call_id = p_call AND h.user_id = cap ->> 'u' AND h.agent_id = cap ->> 'a' RETURNING * INTO hold;
  journaled := false;
  IF hold.call_id IS NULL THEN
    charged := 0;  -- its deadline passed: charged whole already
    RETURN;
  END IF;
  charged := CASE WHEN p_tokens >= 0 THEN p_tokens ELSE hold.tokens END;  -- nobody earns tokens back
  INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, run_id, call_id, round, basis)
  VALUES (hold.user_id, hold.agent_id, hold.mission_id, charged, hold.run_id, hold.call_id, hold.round,
          CASE WHEN p_tokens >= 0 THEN 'reported' ELSE 'hold' END);
  UPDATE mana_ai.runs AS r SET tokens = r.tokens + charged WHERE r.run_id = hold.run_id;
  IF p_answer IS NOT NULL AND EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.run_id = hold.run_id AND r.attempt = p_attempt AND r.state = 'open') THEN
    INSERT INTO mana_ai.journal AS j (run_id, round, user_id, request_hash, answer, tokens)
    VALUES (hold.run_id, hold.round, hold.user_id, p_hash, p_answer, charged)
    ON CONFLICT (run_id, round) DO UPDATE SET request_hash = excluded.request_hash, answer = excluded.answer, tokens = excluded.tokens;
    journaled := true;
  END IF;
END $$;

-- Everything a commit decides on, read in one statement so that a fold in between cannot split it. Rows not folded yet
-- carry their JSON as text: one that cannot be read is skipped alone.
CREATE FUNCTION mana_ai.mission_now(p_run uuid, p_attempt int,
  OUT snapshot jsonb, OUT changes jsonb, OUT agent jsonb, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT (SELECT to_jsonb(s) FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id),
         (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                              'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
            FROM mana_ai.change_feed AS f JOIN mana_ai.log_rows AS c ON c.id = f.change_id
           WHERE f.record_id = run.mission_id AND f.table_name = 'aiMissions' AND f.user_id = run.user_id),
         (SELECT to_jsonb(s) FROM mana_ai.agent_snapshots AS s WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = run.user_id)
    INTO snapshot, changes, agent, time_zone;
END $$;

-- One row into the log, as data-model §5 wants it; its space is the column of the mission's insert.
CREATE FUNCTION mana_ai.write_mission(p_user text, p_mission text, p_data jsonb, p_stamp text, p_actor jsonb, p_origin text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)
  SELECT 'ai', 'aiMissions', p_mission, p_user, 'update', p_data,
         (SELECT jsonb_object_agg(key, p_stamp) FROM jsonb_object_keys(p_data) AS key),
         'mana-ai-runner', 1, p_actor, p_origin,
         coalesce((SELECT c.space_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = 'ai' AND c.table_name = 'aiMissions'
                      AND c.record_id = p_mission AND c.op = 'insert' ORDER BY c.created_at, c.id LIMIT 1),
                  (SELECT s.space_id FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission));
END;

-- Closes a live run for good: no journal, no request, no place taken.
CREATE FUNCTION mana_ai.close_run(p_run mana_ai.runs, p_state text, p_reason text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE mana_ai.runs SET state = p_state, reason = p_reason, closed_at = clock_timestamp(), lease_until = NULL WHERE run_id = p_run.run_id;
  DELETE FROM mana_ai.journal WHERE run_id = p_run.run_id;
  UPDATE mana_ai.run_requests SET closed_at = clock_timestamp()
   WHERE user_id = p_run.user_id AND mission_id = p_run.mission_id AND due_at = p_run.due_at;
  PERFORM mana_ai.wake_next(p_run.user_id, p_run.agent_id, p_run.mission_id);
END $$;

-- When to look at a mission again once a run is over: at a waiting request, else at its next run.
CREATE FUNCTION mana_ai.look_again(p_user text, p_mission text, p_next timestamptz) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = least(p_next, (
         SELECT min(q.due_at) FROM mana_ai.run_requests AS q
          WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.closed_at IS NULL))
   WHERE s.user_id = p_user AND s.mission_id = p_mission;
END;

-- Plan, next run time and run state change together or not at all (P2).
CREATE FUNCTION mana_ai.commit_run(p_run uuid, p_attempt int, p_state text, p_data jsonb, p_stamp text, p_actor jsonb,
  p_next timestamptz, p_iteration text, p_steps int, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  IF p_state NOT IN ('committed', 'failed') OR NOT p_data ? 'iterations' OR p_data - 'iterations' - 'nextRunAt' <> '{}'
     OR p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM run.agent_id THEN
    RAISE EXCEPTION 'commit_run: not a plan of this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.write_mission(run.user_id, run.mission_id, p_data, p_stamp, p_actor, 'agent');
  UPDATE mana_ai.runs SET iteration_id = p_iteration, steps = p_steps WHERE run_id = p_run;
  PERFORM mana_ai.close_run(run, p_state, p_reason);
  DELETE FROM mana_ai.mission_research_jobs WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_next);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at,
                                CASE p_state WHEN 'committed' THEN 'ran' ELSE 'failed' END, p_reason);
END $$;

-- The owner no longer wants this occurrence, or somebody else served it.
CREATE FUNCTION mana_ai.withdraw_run(p_run uuid, p_attempt int, p_reason text, p_look_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.look_again(run.user_id, run.mission_id, p_look_at);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
END $$;

-- Gives the place back and comes again later: back-off, research, or budget.
CREATE FUNCTION mana_ai.wait_run(p_run uuid, p_attempt int, p_not_before timestamptz, p_for text, p_reason text, p_failed boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  UPDATE mana_ai.runs SET state = 'waiting', not_before = p_not_before, waiting_for = p_for, reason = p_reason, lease_until = NULL,
         failures = failures + p_failed::int WHERE run_id = p_run;
  UPDATE mana_ai.mission_snapshots SET wake_at = p_not_before WHERE user_id = run.user_id AND mission_id = run.mission_id;
  PERFORM mana_ai.wake_next(run.user_id, run.agent_id, run.mission_id);
END $$;

-- Puts back server iterations that a client's write dropped; at most once per iteration, a second removal is the owner's will.
-- p_version is the snapshot the array was made from: a change since then stands, and the mission is looked at again.
CREATE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  IF EXISTS (SELECT FROM mana_ai.change_feed WHERE user_id = held ->> 'u' AND table_name = 'aiMissions' AND record_id = p_mission)
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s
                     WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

-- For the supervisor: a run that only waits is over as soon as its owner no longer wants it.
CREATE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  IF run.run_id IS NOT NULL THEN
    PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
    PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  END IF;
END $$;

-- For the supervisor: a due slot that is already served, or fell due before we were installed, moves on without a plan.
CREATE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamptz, p_next text, p_stamp text, p_actor jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due)
     OR NOT (EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND r.state IN ('committed', 'failed'))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- For the gateway: "run now" under the caller's idempotency key; the same key gives the same occurrence.
CREATE FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamptz, OUT created boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden) THEN
    RETURN;
  END IF;
  INSERT INTO mana_ai.run_requests AS q (user_id, request_key, mission_id) VALUES (p_user, p_key, p_mission)
  ON CONFLICT DO NOTHING RETURNING q.due_at INTO request_run.due_at;
  created := FOUND;
  IF NOT created THEN
    SELECT q.due_at INTO request_run.due_at FROM mana_ai.run_requests AS q
     WHERE q.user_id = p_user AND q.request_key = p_key AND q.mission_id = p_mission;
    RETURN;
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, request_run.due_at) WHERE user_id = p_user AND mission_id = p_mission;
END $$;

RESET ROLE;
