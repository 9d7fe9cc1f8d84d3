-- Pause, resume, cancel: an operator's word takes effect within a second, whatever a run is doing.
-- A pause is a row of the owner's log, so that every device shows it and the owner can undo it. A cancel closes the run
-- itself: whatever its process still does meets MA002, and the message to the process only spares the rest of the call.
SET LOCAL ROLE mana_owner;

-- A cancelled occurrence stays withdrawn: claim refuses it and the slot moves on, while other withdrawn ones may reopen.
ALTER TABLE mana_ai.runs ADD COLUMN cancelled_at timestamptz;

-- When a browser began the iteration that still says it is running, so that no process is spent to find that out.
ALTER TABLE mana_ai.mission_snapshots ADD COLUMN browser_since timestamptz;

CREATE OR REPLACE FUNCTION mana_ai.claim(p_mission text, p_due timestamptz, p_lease_ms int, p_holder text, p_pinned jsonb,
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
  IF slot.state IN ('committed', 'failed') OR slot.cancelled_at IS NOT NULL THEN
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

CREATE OR REPLACE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamptz, p_next text, p_stamp text, p_actor jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due)
     OR NOT (EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND (r.state IN ('committed', 'failed') OR r.cancelled_at IS NOT NULL))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from)) THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- The rows of one record that wait to be folded, in fold order; null where there are none. (STABLE: it reads with the
-- snapshot of the statement that asks.)
CREATE FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    FROM mana_ai.change_feed AS f JOIN mana_ai.log_rows AS c ON c.id = f.change_id
   WHERE f.record_id = p_record AND f.table_name = p_table AND f.user_id = p_user;
END;

-- Everything a commit decides on, read in one statement so that a fold in between cannot split it. Rows not folded yet
-- carry their JSON as text: one that cannot be read is skipped alone. Those of the agent count as well: a pause that is in
-- the log is a pause.
DROP FUNCTION mana_ai.mission_now(uuid, int);
CREATE FUNCTION mana_ai.mission_now(p_run uuid, p_attempt int,
  OUT snapshot jsonb, OUT changes jsonb, OUT agent jsonb, OUT agent_changes jsonb, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
BEGIN
  SELECT (SELECT to_jsonb(s) FROM mana_ai.mission_snapshots AS s WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id),
         mana_ai.unfolded(run.user_id, 'aiMissions', run.mission_id),
         (SELECT to_jsonb(s) FROM mana_ai.agent_snapshots AS s WHERE s.user_id = run.user_id AND s.agent_id = run.agent_id),
         mana_ai.unfolded(run.user_id, 'agents', run.agent_id),
         (SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = run.user_id)
    INTO snapshot, changes, agent, agent_changes, time_zone;
END $$;

-- For the supervisor: a run that only waits is over as soon as its owner no longer wants it; says whether it was.
DROP FUNCTION mana_ai.withdraw_waiting(text, uuid, text);
CREATE FUNCTION mana_ai.withdraw_waiting(p_user text, p_run uuid, p_reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs WHERE user_id = p_user AND run_id = p_run AND state = 'waiting' FOR UPDATE SKIP LOCKED;
  IF run.run_id IS NULL THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  PERFORM mana_ai.note_decision(run.user_id, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  RETURN true;
END $$;

-- For the gateway: a run ends now, open or waiting, and its occurrence with it. Its tokens stay charged: a hold is settled
-- by the process that hears of it, or charged whole at its deadline. `outcome`: cancelled, already, over, or null.
CREATE FUNCTION mana_ai.cancel_run(p_user text, p_run uuid, p_reason text,
  OUT outcome text, OUT state text, OUT agent_id text, OUT mission_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run;
  IF run.run_id IS NULL THEN
    RETURN;
  END IF;
  PERFORM mana_ai.lock_ledger(p_user, run.agent_id);
  SELECT * INTO run FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.run_id = p_run FOR UPDATE;
  agent_id := run.agent_id;
  mission_id := run.mission_id;
  IF run.state NOT IN ('open', 'waiting') THEN
    state := run.state;
    outcome := CASE WHEN run.cancelled_at IS NOT NULL THEN 'already' ELSE 'over' END;
    RETURN;
  END IF;
  PERFORM mana_ai.close_run(run, 'withdrawn', p_reason);
  UPDATE mana_ai.runs AS r SET cancelled_at = clock_timestamp() WHERE r.run_id = p_run;
  -- Its slot is due still: the supervisor looks at once, and moves it on.
  PERFORM mana_ai.look_again(p_user, run.mission_id, (SELECT s.next_run_at FROM mana_ai.mission_snapshots AS s
    WHERE s.user_id = p_user AND s.mission_id = run.mission_id AND s.state = 'active' AND NOT s.hidden));
  PERFORM mana_ai.note_decision(p_user, run.mission_id, run.agent_id, run.due_at, 'withdrawn', p_reason);
  state := 'withdrawn';
  outcome := 'cancelled';
END $$;

-- For the gateway: what a pause decides on, without a word of the record: state, deletion and their stamps, also of rows
-- not folded yet. No lock is taken that an agent could hold: whoever runs away must still be stoppable.
CREATE FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  record jsonb;
  present boolean;
  complete boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF p_table = 'agents' THEN
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.agent_snapshots AS s
     WHERE s.user_id = p_user AND s.agent_id = p_record;
  ELSE
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.mission_snapshots AS s
     WHERE s.user_id = p_user AND s.mission_id = p_record;
  END IF;
  IF record IS NOT NULL THEN
    snapshot := jsonb_build_object('present', present, 'complete', complete, 'record',
      mana_ai.only_state(record) || jsonb_build_object('__fieldMeta', mana_ai.only_state(record -> '__fieldMeta')));
  END IF;
  SELECT jsonb_agg(c || jsonb_build_object('data', mana_ai.only_state((c ->> 'data')::jsonb)::text,
                                           'field_meta', mana_ai.only_state((c ->> 'field_meta')::jsonb)::text))
    INTO changes FROM jsonb_array_elements(mana_ai.unfolded(p_user, p_table, p_record)) AS c;
END $$;

CREATE FUNCTION mana_ai.only_state(p_fields jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN jsonb_typeof(p_fields) = 'object' THEN
  coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(p_fields) WHERE key IN ('state', 'deletedAt')), '{}') END;

-- For the gateway: one row into the owner's log that sets a record's state, in its space, as data-model §5 wants it.
CREATE FUNCTION mana_ai.write_state(p_user text, p_table text, p_record text, p_state text, p_stamp text, p_actor jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_table NOT IN ('agents', 'aiMissions') OR p_state NOT IN ('active', 'paused') OR p_actor ->> 'kind' IS DISTINCT FROM 'system' THEN
    RAISE EXCEPTION 'write_state: not a pause or its end' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  INSERT INTO mana_ai.log_rows (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version, actor, origin, space_id)
  SELECT 'ai', p_table, p_record, p_user, 'update', jsonb_build_object('state', p_state), jsonb_build_object('state', p_stamp),
         'mana-ai-runner', 1, p_actor, 'system',
         coalesce((SELECT c.space_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = 'ai' AND c.table_name = p_table
                      AND c.record_id = p_record AND c.op = 'insert' ORDER BY c.created_at, c.id LIMIT 1),
                  (SELECT s.space_id FROM mana_ai.mission_snapshots AS s
                    WHERE p_table = 'aiMissions' AND s.user_id = p_user AND s.mission_id = p_record),
                  (SELECT s.space_id FROM mana_ai.agent_snapshots AS s
                    WHERE p_table = 'agents' AND s.user_id = p_user AND s.agent_id = p_record));
END $$;

REVOKE ALL ON FUNCTION mana_ai.unfolded(text, text, text), mana_ai.mission_now(uuid, int), mana_ai.withdraw_waiting(text, uuid, text),
  mana_ai.cancel_run(text, uuid, text), mana_ai.state_now(text, text, text), mana_ai.only_state(jsonb),
  mana_ai.write_state(text, text, text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.mission_now(uuid, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.withdraw_waiting(text, uuid, text) TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.cancel_run(text, uuid, text), mana_ai.state_now(text, text, text),
  mana_ai.write_state(text, text, text, text, text, jsonb) TO mana_gateway;

RESET ROLE;
