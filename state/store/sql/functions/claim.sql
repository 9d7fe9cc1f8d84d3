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
      PERFORM mana_ai.note_decision(u, p_mission, live.agent_id, live.due_at, 'withdrawn', 'the owner moved the next run');
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

COMMENT ON FUNCTION mana_ai.claim IS
'Takes an occurrence of a mission for one attempt, with a lease. The ledger lock makes concurrent claims of an agent
take turns, so its limit of runs holds. A live run of the mission is finished first: its lease must be over, and it
becomes the next attempt of the same row. Outcome ''claimed'', or why not: ''unwanted'', ''held'', ''waiting'',
''stale'', ''early'', ''served'', ''concurrency''; look_at says when to ask again.';
ALTER FUNCTION mana_ai.claim OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.claim TO mana_agent;
