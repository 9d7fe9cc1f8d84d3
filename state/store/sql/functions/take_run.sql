CREATE OR REPLACE FUNCTION mana_ai.take_run(p_capability text, p_claim uuid, p_mission text, p_due timestamptz, p_lease_ms int, p_holder text,
  p_pinned jsonb, p_mission_version bigint, p_agent_version bigint, p_time_zone text,
  OUT outcome text, OUT run_id uuid, OUT attempt int, OUT due_at timestamptz, OUT look_at timestamptz, OUT pinned jsonb,
  OUT failures int, OUT lost int, OUT requested boolean, OUT mission_version bigint, OUT agent_version bigint, OUT time_zone text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  u text := held ->> 'u';
  a text := held ->> 'a';
  until timestamptz;
  mission mana_ai.mission_snapshots;
  agent mana_ai.agent_snapshots;
  live mana_ai.runs;
  slot mana_ai.runs;
  is_request boolean;
BEGIN
  PERFORM mana_ai.lock_ledger(u, a);
  PERFORM FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission
      AND (r.state IN ('open', 'waiting') OR r.due_at = p_due) ORDER BY r.run_id FOR UPDATE;
  SELECT * INTO mission FROM mana_ai.mission_snapshots AS s WHERE s.user_id = u AND s.mission_id = p_mission FOR UPDATE;
  SELECT * INTO agent FROM mana_ai.agent_snapshots AS s WHERE s.user_id = u AND s.agent_id = a;
  SELECT * INTO live FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission AND r.state IN ('open', 'waiting');
  mission_version := mission.version;
  agent_version := coalesce(agent.version, 0);
  time_zone := coalesce((SELECT z.time_zone FROM mana_ai.user_settings AS z WHERE z.user_id = u), '');
  until := clock_timestamp() + least(p_lease_ms, 3600000) * interval '1 ms';
  due_at := p_due;
  IF live.state = 'open' AND live.claim_id = p_claim AND live.holder = p_holder AND live.agent_id = a THEN
    -- Asked again, because the answer to the first asking was lost.
    UPDATE mana_ai.runs AS r SET lease_until = until WHERE r.run_id = live.run_id
    RETURNING r.run_id, r.attempt, r.due_at, r.lease_until, r.pinned, r.failures, r.lost, r.requested
         INTO take_run.run_id, take_run.attempt, take_run.due_at, take_run.look_at, take_run.pinned, take_run.failures, take_run.lost,
              take_run.requested;
    UPDATE mana_ai.mission_snapshots AS s SET wake_at = until WHERE s.user_id = u AND s.mission_id = p_mission;
    outcome := 'claimed'; RETURN;
  END IF;
  IF mission.mission_id IS NULL OR mission.agent_id <> a OR mission.hidden OR NOT mission.complete OR mission.state <> 'active' THEN
    outcome := 'unwanted'; RETURN;
  END IF;
  IF mana_ai.is_shared(mission.space_id) AND NOT mana_ai.may_share(u, mission.space_id) THEN
    outcome := 'stale'; RETURN;  -- they left the space since it was ordered; a new look says so
  END IF;
  IF p_mission_version <> take_run.mission_version OR p_agent_version <> take_run.agent_version OR p_time_zone <> take_run.time_zone THEN
    outcome := 'changed'; RETURN;
  END IF;
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
      PERFORM mana_ai.note_decision(u, p_mission, live.agent_id, live.due_at, 'withdrawn', 'the owner moved the next run');
      live := NULL;
    END IF;
  END IF;
  is_request := EXISTS (SELECT FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = p_mission
                           AND q.due_at = take_run.due_at AND q.closed_at IS NULL);
  IF NOT is_request AND take_run.due_at IS DISTINCT FROM mission.next_run_at THEN
    outcome := 'stale'; RETURN;
  END IF;
  IF take_run.due_at > clock_timestamp() THEN
    outcome := 'early'; look_at := take_run.due_at; RETURN;
  END IF;
  SELECT * INTO slot FROM mana_ai.runs AS r WHERE r.user_id = u AND r.mission_id = p_mission AND r.due_at = take_run.due_at;
  IF slot.state IN ('committed', 'failed') OR slot.cancelled_at IS NOT NULL THEN
    outcome := 'served'; RETURN;
  END IF;
  IF (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = u AND r.agent_id = a AND r.state = 'open'
         AND r.lease_until > clock_timestamp() AND r.mission_id <> p_mission) >= coalesce(agent.max_concurrent, 1) THEN
    outcome := 'concurrency'; RETURN;
  END IF;
  INSERT INTO mana_ai.runs AS r (user_id, agent_id, mission_id, due_at, state, requested, holder, lease_until, pinned, claim_id)
  VALUES (u, a, p_mission, take_run.due_at, 'open', is_request, p_holder, until, p_pinned, p_claim)
  ON CONFLICT ON CONSTRAINT runs_one_per_occurrence DO UPDATE
     SET state = 'open', agent_id = a, attempt = r.attempt + 1, lost = r.lost + (r.state = 'open')::int, holder = excluded.holder,
         lease_until = excluded.lease_until, pinned = coalesce(r.pinned, excluded.pinned), claim_id = excluded.claim_id,
         claimed_at = clock_timestamp(), closed_at = NULL, not_before = NULL, waiting_for = NULL, reason = NULL
  RETURNING r.run_id, r.attempt, r.lease_until, r.pinned, r.failures, r.lost, r.requested
       INTO take_run.run_id, take_run.attempt, take_run.look_at, take_run.pinned, take_run.failures, take_run.lost, take_run.requested;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = take_run.look_at WHERE s.user_id = u AND s.mission_id = p_mission;
  outcome := 'claimed';
END $$;

COMMENT ON FUNCTION mana_ai.take_run IS
'Takes an occurrence of a mission for one attempt, with a lease; called by claim(), for which it presents the capability.
The ledger lock makes concurrent claims of an agent take turns, so its limit of runs holds. A live run of the mission is
finished first: its lease must be over, and it becomes the next attempt of the same row. Asked again with the same p_claim
by the same holder, it returns the same attempt. Outcome ''claimed'', or why not: ''unwanted'', ''changed'' (it was decided
by another version of mission or agent, or another zone; null is not compared), ''held'', ''waiting'', ''stale'',
''early'', ''served'', ''concurrency''; look_at says when to ask again.';
ALTER FUNCTION mana_ai.take_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.take_run TO mana_agent;
