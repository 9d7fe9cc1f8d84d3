-- What a supervisor runs: its shard, the feed and the snapshots, what is due. It sees every user's schedule and no row of the log.

-- lock_shard --
-- Folding without this lock loses updates (two consumers on one bucket), also with SKIP LOCKED.
SELECT lower(buckets) AS lo, upper(buckets) AS hi FROM mana_ai.shards WHERE shard = $1 AND epoch = $2 FOR UPDATE

-- take_shard --
SELECT mana_ai.take_shard($1, $2, $3, $4)

-- beat --
UPDATE mana_ai.shards SET heartbeat_at = clock_timestamp(), folded_at = coalesce($3, folded_at), ticked_at = coalesce($4, ticked_at)
 WHERE shard = $1 AND epoch = $2

-- feed_waits --
-- The idle poll: one descent into the index, no lock, no write.
SELECT EXISTS (SELECT FROM mana_ai.change_feed WHERE seq > $1 AND bucket >= $2 AND bucket < $3)

-- feed_backlog --
-- Bounded: to know that it is long, one need not count it.
SELECT count(*) FROM (SELECT FROM mana_ai.change_feed WHERE bucket >= $1 AND bucket < $2 LIMIT 100000) AS waiting

-- waiting_records --
SELECT * FROM mana_ai.waiting_records($1, $2, $3, $4)

-- lock_missions --
-- Locks the snapshots of these missions and returns those that somebody else holds: a fold waits for nobody's transaction.
WITH ours AS MATERIALIZED (SELECT * FROM mana_ai.free_missions($1, $2))
SELECT m.user_id, m.mission_id AS record_id FROM mana_ai.mission_snapshots AS m JOIN unnest($1::text[], $2::text[]) AS k (user_id, mission_id)
 USING (user_id, mission_id) WHERE (m.user_id, m.mission_id) NOT IN (SELECT o.user_id, o.mission_id FROM ours AS o)

-- lock_agents --
-- The same for agents, with the missions of each, which are woken with it: an agent of whose missions one is held counts as held.
WITH keys AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[]) AS k (user_id, agent_id)),
ours AS MATERIALIZED (
  SELECT a.user_id, a.agent_id FROM mana_ai.agent_snapshots AS a JOIN keys USING (user_id, agent_id) FOR UPDATE OF a SKIP LOCKED),
missions AS MATERIALIZED (
  SELECT m.user_id, m.mission_id FROM mana_ai.mission_snapshots AS m JOIN keys USING (user_id, agent_id) FOR UPDATE OF m SKIP LOCKED)
SELECT a.user_id, a.agent_id AS record_id FROM mana_ai.agent_snapshots AS a JOIN keys USING (user_id, agent_id)
 WHERE (a.user_id, a.agent_id) NOT IN (SELECT o.user_id, o.agent_id FROM ours AS o)
UNION
SELECT m.user_id, m.agent_id FROM mana_ai.mission_snapshots AS m JOIN keys USING (user_id, agent_id)
 WHERE (m.user_id, m.mission_id) NOT IN (SELECT o.user_id, o.mission_id FROM missions AS o)

-- take_changes --
SELECT * FROM mana_ai.take_changes(:lo, :hi, :users, :tables, :records, :shared, :seqs, :bytes)

-- replay_records --
SELECT * FROM mana_ai.replay_records($1, $2, $3)

-- reconcile --
SELECT * FROM mana_ai.reconcile($1, $2, $3, $4)

-- reconciled_to --
SELECT coalesce(reconcile_after, '') FROM mana_ai.shards WHERE shard = $1 AND epoch = $2

-- reconcile_progress --
UPDATE mana_ai.shards SET reconcile_after = :after,
       reconcile_started_at = CASE WHEN :started THEN clock_timestamp() ELSE reconcile_started_at END,
       reconciled_at = CASE WHEN :finished THEN clock_timestamp() ELSE reconciled_at END
 WHERE shard = :shard AND epoch = :epoch

-- load_missions --
SELECT user_id, mission_id AS record_id, agent_id, version, record, complete, present, newest_at, newest_id, folded_count, folded_digest
  FROM mana_ai.mission_snapshots WHERE (user_id, mission_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))

-- load_agents --
SELECT user_id, agent_id AS record_id, agent_id, version, record, complete, present, newest_at, newest_id, folded_count, folded_digest
  FROM mana_ai.agent_snapshots WHERE (user_id, agent_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))

-- forced_quarantine --
-- Rows set aside because a statement failed on them; a replay skips them like the fold did.
SELECT change_id FROM mana_ai.quarantine WHERE forced AND change_id = ANY ($1)

-- orphans --
-- Members' records of a shared space that came before their owner's insert.
SELECT user_id, 'aiMissions' AS table_name, mission_id AS record_id FROM mana_ai.mission_snapshots
 WHERE NOT complete AND mission_id = ANY ($1::text[]) AND bucket >= $2 AND bucket < $3
UNION ALL
SELECT user_id, 'agents', agent_id FROM mana_ai.agent_snapshots
 WHERE NOT complete AND agent_id = ANY ($1::text[]) AND bucket >= $2 AND bucket < $3

-- save_missions --
-- wake_at starts at the next run; the due query and the gate take it from there. Healing is due at once, and so is the end
-- of a run that waits and is wanted no longer: the fold itself would have to wait for that run's row.
INSERT INTO mana_ai.mission_snapshots AS s (user_id, mission_id, bucket, record, state, agent_id, space_id, next_run_at, wake_at,
       complete, present, hidden, readable, problems, newest_at, newest_id, folded_count, folded_digest, heal, browser_since, version, last_applied_at, updated_at)
SELECT u, m, mana_ai.bucket_of(u), r::jsonb, st, a, sp, nx, CASE WHEN hl THEN clock_timestamp() WHEN active THEN least(nx, (
         SELECT min(q.due_at) FROM mana_ai.run_requests AS q WHERE q.user_id = u AND q.mission_id = m AND q.closed_at IS NULL))
       WHEN EXISTS (SELECT FROM mana_ai.runs AS w WHERE w.user_id = u AND w.mission_id = m AND w.state = 'waiting') THEN clock_timestamp() END,
       c, pr, h, rd, string_to_array(p, E'\n'), na, ni, fc, fd, hl, br, nextval('mana_ai.snapshot_version'), clock_timestamp(), clock_timestamp()
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bool[], $9::bool[],
              $10::bool[], $11::bool[], $12::text[], $13::timestamptz[], $14::uuid[], $15::bigint[], $16::bigint[], $17::timestamptz[], $18::bool[], $19::bool[])
       AS k (u, m, r, st, a, sp, nx, c, pr, h, rd, p, na, ni, fc, fd, br, hl, active)
ON CONFLICT (user_id, mission_id) DO UPDATE SET record = excluded.record, state = excluded.state, agent_id = excluded.agent_id,
       space_id = excluded.space_id, next_run_at = excluded.next_run_at,
       wake_at = CASE WHEN s.heal AND NOT excluded.hidden THEN clock_timestamp() ELSE excluded.wake_at END, complete = excluded.complete, present = excluded.present,
       hidden = excluded.hidden, readable = excluded.readable, problems = excluded.problems, newest_at = excluded.newest_at,
       newest_id = excluded.newest_id, folded_count = excluded.folded_count, folded_digest = excluded.folded_digest,
       heal = (s.heal OR excluded.heal) AND NOT excluded.hidden, browser_since = excluded.browser_since,
       version = excluded.version, bucket = excluded.bucket, last_applied_at = excluded.last_applied_at, updated_at = excluded.updated_at
RETURNING user_id, mission_id, agent_id, version, wake_at

-- save_agents --
INSERT INTO mana_ai.agent_snapshots AS s (user_id, agent_id, bucket, record, state, space_id, max_tokens_per_day, max_concurrent,
       complete, present, hidden, problems, newest_at, newest_id, folded_count, folded_digest, version, last_applied_at, updated_at)
SELECT u, a, mana_ai.bucket_of(u), r::jsonb, st, sp, mt, mc, c, pr, h, string_to_array(p, E'\n'), na, ni, fc, fd,
       nextval('mana_ai.snapshot_version'), clock_timestamp(), clock_timestamp()
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::int[], $8::bool[], $9::bool[], $10::bool[],
              $11::text[], $12::timestamptz[], $13::uuid[], $14::bigint[], $15::bigint[])
       AS k (u, a, r, st, sp, mt, mc, c, pr, h, p, na, ni, fc, fd)
ON CONFLICT (user_id, agent_id) DO UPDATE SET record = excluded.record, state = excluded.state, space_id = excluded.space_id,
       max_tokens_per_day = excluded.max_tokens_per_day, max_concurrent = excluded.max_concurrent, complete = excluded.complete, present = excluded.present,
       hidden = excluded.hidden, problems = excluded.problems, newest_at = excluded.newest_at, newest_id = excluded.newest_id,
       folded_count = excluded.folded_count, folded_digest = excluded.folded_digest, version = excluded.version,
       bucket = excluded.bucket, last_applied_at = excluded.last_applied_at, updated_at = excluded.updated_at
RETURNING user_id, agent_id, version

-- drop_missions --
-- A record without a row in the log any more (a restore, or rows that belong to somebody else's record).
-- Its absence has a version too, so that older news of it are known for old.
DELETE FROM mana_ai.mission_snapshots WHERE (user_id, mission_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
RETURNING user_id, mission_id, agent_id, version AS before, nextval('mana_ai.snapshot_version') AS after

-- drop_agents --
DELETE FROM mana_ai.agent_snapshots WHERE (user_id, agent_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
RETURNING user_id, agent_id, version AS before, nextval('mana_ai.snapshot_version') AS after

-- wake_missions_of_agents --
-- A changed agent may unblock what its old record blocked, or no longer want what waits.
UPDATE mana_ai.mission_snapshots AS m
   SET wake_at = CASE WHEN EXISTS (SELECT FROM mana_ai.runs AS w WHERE w.user_id = m.user_id AND w.mission_id = m.mission_id
                                      AND w.state = 'waiting') THEN clock_timestamp()
                      ELSE least(m.next_run_at, (SELECT min(q.due_at) FROM mana_ai.run_requests AS q
                             WHERE q.user_id = m.user_id AND q.mission_id = m.mission_id AND q.closed_at IS NULL)) END
  FROM unnest($1::text[], $2::text[]) AS k (u, a)
 WHERE m.user_id = k.u AND m.agent_id = k.a AND m.state = 'active' AND NOT m.hidden AND m.complete AND m.readable

-- waiting_runs --
-- What decides whether runs that only wait are wanted still; such a run goes over to the agent that its mission has now.
SELECT r.run_id, s.hidden, s.state, s.version, coalesce(a.hidden, false) AS agent_hidden, a.state AS agent_state,
       a.version AS agent_version
  FROM mana_ai.runs AS r JOIN mana_ai.mission_snapshots AS s USING (user_id, mission_id)
  LEFT JOIN mana_ai.agent_snapshots AS a ON a.user_id = s.user_id AND a.agent_id = s.agent_id
 WHERE r.user_id = $1 AND r.mission_id = ANY ($2) AND r.state = 'waiting'

-- withdraw_waiting --
SELECT mana_ai.withdraw_waiting($1, $2, $3, $4, $5)

-- quarantine --
INSERT INTO mana_ai.quarantine (change_id, user_id, table_name, record_id, reason, forced)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[]) ON CONFLICT DO NOTHING

-- is_due --
-- The idle look: the first entry of an index.
SELECT wake_at <= clock_timestamp() FROM mana_ai.mission_snapshots
 WHERE wake_at IS NOT NULL AND bucket >= $1 AND bucket < $2 ORDER BY wake_at LIMIT 1

-- due --
-- What to look at now, one mission of each user first, so that a crowd of one tenant's cannot stand before the others'. The
-- next two say what was just found to be held: it would come first again, for as long as it is held. A record is unpacked
-- only where the slot is so late that it may have been missed.
SELECT m.user_id, m.mission_id, m.agent_id, m.version, m.next_run_at, m.wake_at, m.state, m.hidden, m.complete, m.readable, m.heal,
       m.decision, m.space_id,
       a.agent_id IS NOT NULL AND a.complete AND NOT a.hidden AS agent_known, a.state AS agent_state,
       coalesce(a.hidden, false) AS agent_hidden, a.max_concurrent,
       u.cap AS max_tokens_per_day, a.version AS agent_version,
       r.state AS run_state, r.lease_until, r.not_before, r.due_at AS run_due_at,
       q.due_at AS requested_at,
       slot.state AS slot_state, m.browser_since,
       u.used, u.back_at, coalesce(u.full_scope, f.scope) AS full_scope, coalesce(u.full_unit, f.unit) AS full_unit,
       CASE WHEN u.full_scope IS NULL THEN f.back_at ELSE u.full_back_at END AS full_back_at,
       coalesce(n.running, 0)::int AS running,
       i.slots_from, m.next_run_at < clock_timestamp() - :missed_after::interval
         AND (SELECT k.record ->> 'missedRuns' = 'none' FROM mana_ai.mission_snapshots AS k
               WHERE k.user_id = m.user_id AND k.mission_id = m.mission_id) IS TRUE AS leaves_missed,
       mana_ai.is_shared(m.space_id) AND NOT mana_ai.may_share(m.user_id, m.space_id) AS has_left_space,
       a.agent_id IS NULL AND mana_ai.is_shared(m.space_id) AND EXISTS (
         SELECT FROM mana_ai.agent_snapshots AS o WHERE o.user_id = ANY (mana_ai.members_of(m.space_id)) AND o.agent_id = m.agent_id
            AND o.space_id = m.space_id AND o.complete AND NOT o.hidden) AS agent_of_another,
       clock_timestamp() AS now, z.time_zone, (SELECT c::text FROM mana_ai.caps_of(m.user_id, m.agent_id) AS c) AS limits
  FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY wake_at, mission_id) AS turn
          FROM (SELECT user_id, mission_id, agent_id, version, next_run_at, wake_at, state, hidden, complete, readable, heal,
                       decision, space_id, browser_since
                  FROM mana_ai.mission_snapshots
                 WHERE wake_at <= (SELECT clock_timestamp()) AND bucket >= :lo AND bucket < :hi
                   AND (user_id, mission_id) NOT IN (SELECT * FROM unnest(:users::text[], :missions::text[])) ORDER BY wake_at LIMIT 2000) AS oldest
         ORDER BY turn, wake_at, user_id LIMIT :limit) AS m
  CROSS JOIN mana_ai.install AS i
  LEFT JOIN mana_ai.agent_snapshots AS a ON a.user_id = m.user_id AND a.agent_id = m.agent_id
  LEFT JOIN mana_ai.user_settings AS z ON z.user_id = m.user_id
  LEFT JOIN mana_ai.runs AS r ON r.user_id = m.user_id AND r.mission_id = m.mission_id AND r.state IN ('open', 'waiting')
  LEFT JOIN mana_ai.runs AS slot ON slot.user_id = m.user_id AND slot.mission_id = m.mission_id AND slot.due_at = m.next_run_at
        AND (slot.state IN ('committed', 'failed') OR slot.cancelled_at IS NOT NULL)
  LEFT JOIN LATERAL (SELECT min(due_at) AS due_at FROM mana_ai.run_requests AS q
         WHERE q.user_id = m.user_id AND q.mission_id = m.mission_id AND q.closed_at IS NULL) AS q ON true
  LEFT JOIN mana_ai.used_up('', '', ARRAY['installation']) AS f ON true
  CROSS JOIN LATERAL mana_ai.budget_facts(m.user_id, m.agent_id) AS u
  LEFT JOIN LATERAL (SELECT count(*) AS running FROM mana_ai.runs AS o
         WHERE o.user_id = m.user_id AND o.agent_id = m.agent_id AND o.state = 'open' AND o.lease_until > clock_timestamp()) AS n ON true
 ORDER BY m.turn, m.wake_at, m.user_id

-- agents_due_soon --
-- How many (user, agent) pairs fall due in the next seconds, so that processes can be made ready.
SELECT count(DISTINCT (user_id, agent_id)) FROM mana_ai.mission_snapshots
 WHERE wake_at <= clock_timestamp() + $3 * interval '1 second' AND bucket >= $1 AND bucket < $2

-- has_grants --
-- The first entry of an index that has nothing else.
SELECT EXISTS (SELECT FROM mana_ai.mission_snapshots
                WHERE record -> 'grant' <> 'null'::jsonb AND NOT hidden AND bucket >= $1 AND bucket < $2)

-- holders --
-- Whoever locked a row last is its xmax, and pg_locks knows whose transaction that is; of several that share a lock, none.
SELECT DISTINCT l.pid, coalesce(s.usename, 'a prepared transaction')::text AS login
  FROM unnest($1::text[], $2::text[]) AS k (user_id, record_id)
 CROSS JOIN LATERAL (SELECT m.xmax FROM mana_ai.mission_snapshots AS m WHERE m.user_id = k.user_id AND m.mission_id = k.record_id
                     UNION ALL
                     SELECT a.xmax FROM mana_ai.agent_snapshots AS a WHERE a.user_id = k.user_id AND a.agent_id = k.record_id) AS x
  JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.transactionid = x.xmax AND l.granted
  LEFT JOIN pg_stat_activity AS s ON s.pid = l.pid
 WHERE l.pid IS NOT NULL ORDER BY l.pid LIMIT 5

-- wake_deferred --
-- There is room again. Says how many were woken, and how many stay for whoever holds them.
WITH deferred AS MATERIALIZED (
  SELECT user_id, mission_id FROM mana_ai.mission_snapshots
   WHERE decision = 'deferred-disk-full' AND wake_at > clock_timestamp() AND bucket >= $1 AND bucket < $2),
free AS MATERIALIZED (
  SELECT f.* FROM mana_ai.free_missions(ARRAY(SELECT d.user_id FROM deferred AS d ORDER BY d.user_id, d.mission_id),
                                        ARRAY(SELECT d.mission_id FROM deferred AS d ORDER BY d.user_id, d.mission_id)) AS f),
woken AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM free AS f
   WHERE m.user_id = f.user_id AND m.mission_id = f.mission_id)
SELECT (SELECT count(*) FROM free) AS woken, (SELECT count(*) FROM deferred) - (SELECT count(*) FROM free) AS held

-- look_again --
-- Only if nothing changed the row since it was looked at: a fold in between has the last word, and so has whoever woke it.
-- Returns those that somebody holds: they stay as they are.
WITH keys AS MATERIALIZED (
  SELECT * FROM unnest(:users::text[], :missions::text[], :versions::bigint[], :at::timestamptz[], :was::timestamptz[])
                AS k (user_id, mission_id, version, at, was)),
free AS MATERIALIZED (SELECT * FROM mana_ai.free_missions(:users, :missions)),
looked AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = k.at FROM keys AS k JOIN free USING (user_id, mission_id)
   WHERE m.user_id = k.user_id AND m.mission_id = k.mission_id AND m.version = k.version
     AND CASE WHEN k.was IS NULL THEN m.wake_at IS NULL OR m.wake_at > clock_timestamp() ELSE m.wake_at = k.was END)
SELECT m.user_id, m.mission_id FROM mana_ai.mission_snapshots AS m JOIN keys USING (user_id, mission_id)
 WHERE (m.user_id, m.mission_id) NOT IN (SELECT f.user_id, f.mission_id FROM free AS f)

-- wake_blocked --
-- A place is free again, as the supervisor counts them: its count runs behind the database's, so the wake-up that came with
-- the commit may have been answered with "still running". True where somebody holds every mission that could have it.
WITH blocked AS MATERIALIZED (
  SELECT mission_id, agent_id, next_run_at FROM mana_ai.mission_snapshots
   WHERE user_id = $1 AND decision = 'skipped-concurrency' AND wake_at > clock_timestamp()),
first AS MATERIALIZED (
  SELECT m.mission_id FROM mana_ai.mission_snapshots AS m JOIN blocked AS b USING (mission_id)
   WHERE m.user_id = $1
   ORDER BY m.agent_id <> $2, m.next_run_at NULLS FIRST, m.mission_id LIMIT 1 FOR UPDATE OF m SKIP LOCKED),
woken AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM first AS f
   WHERE m.user_id = $1 AND m.mission_id = f.mission_id)
SELECT EXISTS (SELECT FROM blocked) AND NOT EXISTS (SELECT FROM first)

-- wake_missions --
-- Their orders are known to be lost: look now, and not when the patience with an order ends. Returns those that somebody holds.
WITH free AS MATERIALIZED (SELECT * FROM mana_ai.free_missions(ARRAY(SELECT $1::text FROM unnest($2::text[])), $2)),
woken AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM free AS f
   WHERE m.user_id = f.user_id AND m.mission_id = f.mission_id AND m.wake_at > clock_timestamp())
SELECT m.user_id, m.mission_id FROM mana_ai.mission_snapshots AS m
 WHERE m.user_id = $1 AND m.mission_id = ANY ($2) AND m.mission_id NOT IN (SELECT f.mission_id FROM free AS f)

-- wake_ordered --
-- Whoever was ordered by a supervisor that died: a look too early is harmless. Returns those that somebody holds.
WITH ordered AS MATERIALIZED (
  SELECT user_id, mission_id FROM mana_ai.mission_snapshots
   WHERE wake_at > clock_timestamp() AND wake_at <= clock_timestamp() + $3 * interval '1 second'
     AND bucket >= $1 AND bucket < $2),
free AS MATERIALIZED (
  SELECT f.* FROM mana_ai.free_missions(ARRAY(SELECT o.user_id FROM ordered AS o ORDER BY o.user_id, o.mission_id),
                                        ARRAY(SELECT o.mission_id FROM ordered AS o ORDER BY o.user_id, o.mission_id)) AS f),
woken AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM free AS f
   WHERE m.user_id = f.user_id AND m.mission_id = f.mission_id)
SELECT o.user_id, o.mission_id FROM ordered AS o
 WHERE (o.user_id, o.mission_id) NOT IN (SELECT f.user_id, f.mission_id FROM free AS f)

-- note_decisions --
-- Not of missions that somebody holds: those are looked at again, and told then.
WITH said AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[])
                AS k (user_id, mission_id, agent_id, due_at, decision, reason)),
free AS MATERIALIZED (SELECT * FROM mana_ai.free_missions($1, $2)),
new AS (
  UPDATE mana_ai.mission_snapshots AS m SET decision = k.decision, reason = k.reason, decided_at = clock_timestamp()
    FROM said AS k JOIN free USING (user_id, mission_id)
   WHERE m.user_id = k.user_id AND m.mission_id = k.mission_id AND (m.decision, m.reason) IS DISTINCT FROM (k.decision, k.reason)
  RETURNING k.*)
INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)
SELECT user_id, mission_id, agent_id, due_at, decision, reason FROM new RETURNING decision

-- sign_capability --
SELECT mana_ai.sign_capability(:user, :agent, :spaces, :scope, 'db', :ttl_s)

-- move_slot --
SELECT mana_ai.move_slot(:user, :mission, :due_at, :next_run_at, :stamp, :actor::jsonb, :missed_after, :missed)

-- mission_record --
SELECT m.record, z.time_zone FROM mana_ai.mission_snapshots AS m LEFT JOIN mana_ai.user_settings AS z USING (user_id)
 WHERE m.user_id = $1 AND m.mission_id = $2

-- reach_of_agent --
-- The capability's scope and spaces come from the records as they are now.
SELECT false AS is_agent, record -> 'inputs' AS said, space_id FROM mana_ai.mission_snapshots
 WHERE user_id = $1 AND agent_id = $2 AND NOT hidden AND complete AND state = 'active'
UNION ALL
SELECT true, record -> 'policy', NULL FROM mana_ai.agent_snapshots
 WHERE user_id = $1 AND agent_id = $2 AND NOT hidden AND complete

-- release_holder --
-- The process is known to be dead: its claims need not wait for their leases. Those that somebody holds are returned as not
-- freed: its own last transaction may not have ended yet.
WITH free AS MATERIALIZED (
  SELECT r.run_id, r.user_id, r.mission_id FROM mana_ai.runs AS r JOIN mana_ai.mission_snapshots AS m USING (user_id, mission_id)
   WHERE r.holder = $1 AND r.state = 'open' AND r.lease_until > clock_timestamp() FOR UPDATE SKIP LOCKED),
freed AS (
  UPDATE mana_ai.runs AS r SET lease_until = clock_timestamp() FROM free AS f WHERE r.run_id = f.run_id),
woken AS (
  UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM free AS f
   WHERE m.user_id = f.user_id AND m.mission_id = f.mission_id)
SELECT r.user_id, r.mission_id, r.run_id IN (SELECT f.run_id FROM free AS f) AS is_freed FROM mana_ai.runs AS r
 WHERE r.holder = $1 AND r.state = 'open' AND r.lease_until > clock_timestamp()

-- charge_expired_holds --
WITH expired AS (
  DELETE FROM mana_ai.token_holds WHERE call_id IN (
    SELECT call_id FROM mana_ai.token_holds WHERE deadline < clock_timestamp() LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING *)
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, run_id, call_id, round, basis, ts)
SELECT user_id, agent_id, mission_id, tokens, cost_micros, run_id, call_id, round, 'expired-hold', opened_at FROM expired
ON CONFLICT DO NOTHING

-- wake_after_limits --
-- A limit changed: whoever was refused room is looked at again. The word stays while somebody holds one of those missions.
WITH told AS MATERIALIZED (SELECT id, whose FROM mana_ai.budget_wakes WHERE wake_at <= clock_timestamp()),
refused AS MATERIALIZED (
  SELECT m.user_id, m.mission_id FROM mana_ai.mission_snapshots AS m
   WHERE m.state = 'active' AND NOT m.hidden AND (m.wake_at IS NULL OR m.wake_at > clock_timestamp())
     AND EXISTS (SELECT FROM told WHERE told.whose IN ('', m.user_id))
     AND (m.decision = 'skipped-budget' OR EXISTS (
          SELECT FROM mana_ai.runs AS r WHERE r.user_id = m.user_id AND r.agent_id = m.agent_id AND r.mission_id = m.mission_id
             AND r.state = 'waiting' AND r.waiting_for IN ('budget', 'holds')))),
free AS MATERIALIZED (
  SELECT f.* FROM mana_ai.free_missions((SELECT array_agg(r.user_id ORDER BY r.user_id, r.mission_id) FROM refused AS r),
                                        (SELECT array_agg(r.mission_id ORDER BY r.user_id, r.mission_id) FROM refused AS r)) AS f),
heard AS (
  DELETE FROM mana_ai.budget_wakes AS b USING told WHERE b.id = told.id AND NOT EXISTS (
         SELECT FROM refused AS r WHERE told.whose IN ('', r.user_id)
            AND (r.user_id, r.mission_id) NOT IN (SELECT f.user_id, f.mission_id FROM free AS f)))
UPDATE mana_ai.mission_snapshots AS m SET wake_at = clock_timestamp() FROM free AS f
 WHERE m.user_id = f.user_id AND m.mission_id = f.mission_id

-- live_holders --
SELECT DISTINCT holder FROM mana_ai.runs WHERE state = 'open' AND lease_until > clock_timestamp() AND holder IS NOT NULL

-- overtaken --
-- Which of these were decided about by what has changed since. In a statement after the one that locked them: what changes an
-- agent or asks for a run writes its missions as well, so nothing of it commits in between. A cap is compared where asked for.
SELECT m.user_id, m.mission_id FROM mana_ai.mission_snapshots AS m
  JOIN unnest(:users::text[], :missions::text[], :versions::bigint[], :agent_versions::bigint[], :time_zones::text[],
              :requested::timestamptz[], :capped::bool[], :caps::bigint[], :limits::text[])
       AS k (user_id, mission_id, version, agent_version, time_zone, requested_at, is_capped, cap, limits) USING (user_id, mission_id)
  LEFT JOIN mana_ai.agent_snapshots AS a ON a.user_id = m.user_id AND a.agent_id = m.agent_id
  LEFT JOIN mana_ai.user_settings AS z ON z.user_id = m.user_id
 WHERE m.version <> k.version OR a.version IS DISTINCT FROM k.agent_version OR z.time_zone IS DISTINCT FROM k.time_zone
    OR (SELECT min(q.due_at) FROM mana_ai.run_requests AS q
         WHERE q.user_id = m.user_id AND q.mission_id = m.mission_id AND q.closed_at IS NULL) IS DISTINCT FROM k.requested_at
    OR k.is_capped AND (SELECT c.agent_tokens FROM mana_ai.caps_of(m.user_id, m.agent_id) AS c) IS DISTINCT FROM k.cap
    OR k.limits <> (SELECT c::text FROM mana_ai.caps_of(m.user_id, m.agent_id) AS c)

-- old_sessions --
-- Whose they are is told by the rows that they lock, ledger and run: nobody locks those of an agent without its capability. A
-- name that a session gives itself proves nothing. The owner and the agent of each, or null.
WITH old AS MATERIALIZED (SELECT * FROM mana_ai.old_sessions($1))
SELECT o.pid, o.application, o.age_s, l.user_id, l.agent_id, mana_ai.bucket_of(l.user_id) AS bucket
  FROM old AS o LEFT JOIN LATERAL (
       SELECT g.user_id, g.agent_id FROM mana_ai.ledger AS g WHERE g.xmax = ANY (o.xids) AND g.agent_id <> ''
       UNION
       SELECT r.user_id, r.agent_id FROM mana_ai.runs AS r WHERE r.xmax = ANY (o.xids) AND r.state = 'open') AS l ON true

-- end_sessions --
SELECT mana_ai.end_sessions($1, $2)

-- suspend_runs --
-- An agent that gets no capability renews none either: that takes an open run. What somebody holds comes the next time.
UPDATE mana_ai.runs SET state = 'waiting', lease_until = NULL WHERE run_id IN (
  SELECT run_id FROM mana_ai.runs WHERE user_id = $1 AND agent_id = $2 AND state = 'open' FOR UPDATE SKIP LOCKED)
