-- What operators see and do, as the role mana_gateway: the fleet's views, and writes in one named user's place.
-- Lists are read by key, newest or lowest first, never by offset.

-- shards --
SELECT shard, lower(buckets) AS bucket_lo, upper(buckets) AS bucket_hi, epoch, holder, taken_at, heartbeat_at, folded_at, ticked_at,
       reconcile_started_at, reconciled_at, clock_timestamp() AS now
  FROM mana_ai.shards ORDER BY lower(buckets)

-- counts --
SELECT (SELECT count(*) FROM mana_ai.fleet_missions WHERE NOT hidden) AS missions,
       (SELECT count(*) FROM mana_ai.fleet_agents WHERE NOT hidden) AS agents,
       (SELECT count(*) FROM mana_ai.fleet_runs WHERE state = 'open') AS runs_open,
       (SELECT count(*) FROM mana_ai.fleet_runs WHERE state = 'waiting') AS runs_waiting,
       (SELECT count(*) FROM mana_ai.fleet_quarantine) AS quarantined

-- signs --
-- Due missions nobody looked at for longer than the given seconds, and what failed in the last hour; counting stops at 1,000.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
       (SELECT count(*) FROM (SELECT FROM mana_ai.fleet_missions WHERE wake_at < clock_timestamp() - $1 * interval '1 second'
                               LIMIT 1000) AS late) AS overdue,
       (SELECT count(*) FROM (SELECT FROM mana_ai.fleet_runs WHERE state = 'failed' AND closed_at > clock_timestamp() - interval '1 hour'
                               LIMIT 1000) AS lost) AS failed

-- blockers --
-- Who holds up a supervisor. Of sessions of others we see no more than whose they are; how long ours has waited, its lock says.
SELECT b.pid, coalesce(s.usename, 'a prepared transaction') AS login,
       max(extract(epoch FROM clock_timestamp() - l.waitstart))::float8 AS waited_s
  FROM pg_locks AS l JOIN pg_stat_activity AS w ON w.pid = l.pid AND w.usename = 'mana_supervisor' AND w.datname = current_database()
 CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS b (pid) LEFT JOIN pg_stat_activity AS s ON s.pid = b.pid
 WHERE NOT l.granted AND l.waitstart IS NOT NULL
 GROUP BY 1, 2 ORDER BY waited_s DESC LIMIT 5

-- missions --
-- A run that waits is the news of its mission: what was decided before is older. Where it waits for room, that was decided too.
SELECT m.user_id, m.mission_id, m.agent_id, m.state, m.next_run_at, m.wake_at, m.complete, m.hidden, m.readable, m.problems, m.version,
       CASE WHEN r.is_news THEN 'waiting' ELSE m.decision END AS decision, CASE WHEN r.is_news THEN r.reason ELSE m.reason END AS reason, m.decided_at
  FROM mana_ai.fleet_missions AS m
  LEFT JOIN LATERAL (SELECT n.reason, n.reason IS DISTINCT FROM m.reason AS is_news FROM mana_ai.fleet_runs AS n
                      WHERE n.user_id = m.user_id AND n.mission_id = m.mission_id AND n.state = 'waiting') AS r ON true
 WHERE ($1::text IS NULL OR m.user_id = $1) AND ($2::text IS NULL OR m.agent_id = $2) AND ($3::text IS NULL OR m.mission_id = $3)
   AND ($4::text IS NULL OR m.state = $4) AND (NOT $5 OR m.problems <> '{}' OR NOT m.complete OR NOT m.readable) AND (NOT m.hidden OR $5)
   AND ($6::text IS NULL OR (m.user_id, m.mission_id) > ($6, $7::text))
 ORDER BY m.user_id, m.mission_id LIMIT $8

-- missions_by --
-- By the newest failure where $10 says so, else by the next run; a place is a number that grows, so that one key fits both.
-- No index: all 10,000 missions are looked through in some 20 ms (make bench ARGS=pages), and each commit would pay for one. Whether a
-- run waits is asked of those alone that are shown.
SELECT m.place, m.user_id, m.mission_id, m.agent_id, m.state, m.next_run_at, m.wake_at, m.complete, m.hidden, m.readable, m.problems, m.version,
       CASE WHEN r.is_news THEN 'waiting' ELSE m.decision END AS decision, CASE WHEN r.is_news THEN r.reason ELSE m.reason END AS reason, m.decided_at
  FROM (SELECT * FROM (SELECT f.*, least(CASE WHEN NOT $10 THEN extract(epoch FROM f.next_run_at)
                                                 WHEN f.decision = 'failed' THEN -extract(epoch FROM f.decided_at) END, 1e18)::float8 AS place
                         FROM mana_ai.fleet_missions AS f) AS p
         WHERE ($1::text IS NULL OR p.user_id = $1) AND ($2::text IS NULL OR p.agent_id = $2) AND ($3::text IS NULL OR p.mission_id = $3)
           AND ($4::text IS NULL OR p.state = $4) AND (NOT $5 OR p.problems <> '{}' OR NOT p.complete OR NOT p.readable) AND (NOT p.hidden OR $5)
           AND ($6::float8 IS NULL OR (p.place, p.user_id, p.mission_id) > ($6, $7::text, $8::text))
         ORDER BY p.place, p.user_id, p.mission_id LIMIT $9) AS m
  LEFT JOIN LATERAL (SELECT n.reason, n.reason IS DISTINCT FROM m.reason AS is_news FROM mana_ai.fleet_runs AS n
                      WHERE n.user_id = m.user_id AND n.mission_id = m.mission_id AND n.state = 'waiting') AS r ON true
 ORDER BY m.place, m.user_id, m.mission_id

-- agents_by_spent --
-- As the list of agents, the most spent first. What each spent is asked of its own 24 hours: nobody keeps a sum.
SELECT a.place, a.user_id, a.agent_id, a.state, a.max_tokens_per_day, a.max_concurrent, a.complete, a.hidden, a.problems, a.version,
       a.used_24h, a.held, a.running, a.recorded,
       CASE WHEN a.max_tokens_per_day IS NULL THEN coalesce(l.named, l.of_each) ELSE least(a.max_tokens_per_day, l.named) END AS cap,
       CASE WHEN a.max_tokens_per_day <= coalesce(l.named, a.max_tokens_per_day) THEN 'owner' WHEN l.named IS NOT NULL THEN 'operator'
            WHEN l.of_each IS NOT NULL THEN 'default' ELSE 'none' END AS cap_source
  FROM (SELECT * FROM (SELECT f.*, -f.used_24h::float8 AS place FROM mana_ai.fleet_agents AS f) AS p
         WHERE ($1::text IS NULL OR p.user_id = $1) AND ($2::text IS NULL OR p.agent_id = $2) AND ($3::text IS NULL OR p.state = $3)
           AND (NOT $4 OR p.problems <> '{}' OR NOT p.complete) AND (NOT p.hidden OR $4)
           AND ($5::float8 IS NULL OR (p.place, p.user_id, p.agent_id) > ($5, $6::text, $7::text))
         ORDER BY p.place, p.user_id, p.agent_id LIMIT $8) AS a
 CROSS JOIN LATERAL (SELECT max(k.tokens) FILTER (WHERE k.kind = 'agent') AS named, max(k.tokens) FILTER (WHERE k.kind = 'each-agent') AS of_each
                       FROM mana_ai.limits AS k WHERE k.user_id IN ('', a.user_id) AND k.agent_id IN ('', a.agent_id)) AS l
 ORDER BY a.place, a.user_id, a.agent_id

-- agents --
-- `cap` is the one in force, by the rule of caps_of: that function sees one person's agents only.
SELECT a.user_id, a.agent_id, a.state, a.max_tokens_per_day, a.max_concurrent, a.complete, a.hidden, a.problems, a.version,
       a.used_24h, a.held, a.running, a.recorded,
       CASE WHEN a.max_tokens_per_day IS NULL THEN coalesce(l.named, l.of_each) ELSE least(a.max_tokens_per_day, l.named) END AS cap,
       CASE WHEN a.max_tokens_per_day <= coalesce(l.named, a.max_tokens_per_day) THEN 'owner' WHEN l.named IS NOT NULL THEN 'operator'
            WHEN l.of_each IS NOT NULL THEN 'default' ELSE 'none' END AS cap_source
  FROM mana_ai.fleet_agents AS a
 CROSS JOIN LATERAL (SELECT max(k.tokens) FILTER (WHERE k.kind = 'agent') AS named, max(k.tokens) FILTER (WHERE k.kind = 'each-agent') AS of_each
                       FROM mana_ai.limits AS k WHERE k.user_id IN ('', a.user_id) AND k.agent_id IN ('', a.agent_id)) AS l
 WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR agent_id = $2) AND ($3::text IS NULL OR state = $3)
   AND (NOT $4 OR problems <> '{}' OR NOT complete) AND (NOT hidden OR $4) AND ($5::text IS NULL OR (user_id, agent_id) > ($5, $6::text))
 ORDER BY user_id, agent_id LIMIT $7

-- glances --
-- Of the agents of one page. Their missions are found by agent, and runs of a day by mission and due time.
SELECT a.user_id, a.agent_id, n.next_run_at, d.decision, r.runs_24h
  FROM unnest($1::text[], $2::text[]) AS a (user_id, agent_id)
 CROSS JOIN LATERAL (SELECT min(m.next_run_at) AS next_run_at FROM mana_ai.fleet_missions AS m
                      WHERE m.user_id = a.user_id AND m.agent_id = a.agent_id AND m.state = 'active' AND NOT m.hidden) AS n
  LEFT JOIN LATERAL (SELECT m.decision FROM mana_ai.fleet_missions AS m
                      WHERE m.user_id = a.user_id AND m.agent_id = a.agent_id AND m.decided_at IS NOT NULL
                      ORDER BY m.decided_at DESC LIMIT 1) AS d ON true
 CROSS JOIN LATERAL (SELECT count(*) AS runs_24h FROM mana_ai.fleet_missions AS m
                       JOIN mana_ai.fleet_runs AS x ON x.user_id = m.user_id AND x.mission_id = m.mission_id AND x.agent_id = m.agent_id
                      WHERE m.user_id = a.user_id AND m.agent_id = a.agent_id AND x.due_at > clock_timestamp() - interval '24 hours') AS r

-- runs --
-- By model ($8) of the newest $9 runs alone, as models_used counts them.
SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
       iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at,
       stop_reason, duplicate_calls, dropped_calls, refused_calls, receipt
  FROM mana_ai.fleet_runs
 WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR agent_id = $2) AND ($3::text IS NULL OR mission_id = $3)
   AND ($4::text IS NULL OR state = $4) AND ($5::timestamptz IS NULL OR (opened_at, run_id) < ($5, $6::uuid))
   AND ($8::text IS NULL OR run_id IN (
         SELECT r.run_id FROM (SELECT run_id, receipt FROM mana_ai.fleet_runs ORDER BY opened_at DESC, run_id DESC LIMIT $9) AS r
          CROSS JOIN LATERAL jsonb_to_recordset(r.receipt) AS x (provider text, model text) WHERE x.provider || '/' || x.model = $8))
 ORDER BY opened_at DESC, run_id DESC LIMIT $7

-- run --
SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
       iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at,
       stop_reason, duplicate_calls, dropped_calls, refused_calls, receipt
  FROM mana_ai.fleet_runs WHERE run_id = $1

-- models_used --
-- Of the newest runs alone: a receipt is read out of a run's answers, and nobody keeps sums of them by model.
SELECT x.provider, x.model, count(DISTINCT (r.user_id, r.agent_id)) AS agents, count(DISTINCT (r.user_id, r.mission_id)) AS missions,
       count(*) AS runs, sum(x.calls)::bigint AS calls, sum(x.tokens)::bigint AS tokens, max(r.opened_at) AS last_at
  FROM (SELECT user_id, agent_id, mission_id, opened_at, receipt FROM mana_ai.fleet_runs ORDER BY opened_at DESC, run_id DESC LIMIT $1) AS r
 CROSS JOIN LATERAL jsonb_to_recordset(r.receipt) AS x (provider text, model text, calls bigint, tokens bigint)
 GROUP BY 1, 2 ORDER BY runs DESC, 1, 2

-- decisions --
SELECT id, user_id, mission_id, agent_id, due_at, decision, reason, at
  FROM mana_ai.fleet_decisions
 WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR agent_id = $2) AND ($3::text IS NULL OR mission_id = $3)
   AND ($4::bigint IS NULL OR id < $4)
 ORDER BY id DESC LIMIT $5

-- quarantined --
SELECT change_id, user_id, table_name, record_id, reason, seen_at
  FROM mana_ai.fleet_quarantine
 WHERE ($1::text IS NULL OR user_id = $1) AND ($2::timestamptz IS NULL OR (seen_at, change_id) < ($2, $3::uuid))
 ORDER BY seen_at DESC, change_id DESC LIMIT $4

-- troubles --
-- What needs somebody, by group; each group is counted to 1,001 and shows its first rows after a key (user, id). Runs are stuck when
-- nobody holds them any more ($1 s past the lease) or when one attempt has taken too long ($2 s).
WITH stuck AS (
  SELECT 'stuck' AS trouble, r.user_id, r.agent_id, r.mission_id, r.run_id::text AS id, r.claimed_at AS since, r.state AS word, r.reason
    FROM mana_ai.fleet_runs AS r
   WHERE r.state = 'open' AND (r.lease_until < clock_timestamp() - $1 * interval '1 second'
                               OR r.claimed_at < clock_timestamp() - $2 * interval '1 second')),
overdue AS (
  SELECT 'overdue', m.user_id, m.agent_id, m.mission_id, m.mission_id, m.wake_at, 'due', NULL FROM mana_ai.fleet_missions AS m
   WHERE m.wake_at < clock_timestamp() - $1 * interval '1 second'),
blocked AS (
  SELECT CASE m.decision WHEN 'failed' THEN 'failed' WHEN 'skipped-budget' THEN 'budget' WHEN 'skipped-grant' THEN 'grant' ELSE 'damaged' END,
         m.user_id, m.agent_id, m.mission_id, m.mission_id, m.decided_at, m.decision, m.reason
    FROM mana_ai.fleet_missions AS m
   WHERE m.state = 'active' AND NOT m.hidden
     AND m.decision IN ('failed', 'skipped-budget', 'skipped-grant', 'skipped-unreadable', 'skipped-missing-agent', 'skipped-inputs')),
damaged AS (
  SELECT 'damaged', m.user_id, m.agent_id, m.mission_id, m.mission_id, m.decided_at, 'broken',
         CASE WHEN m.problems <> '{}' THEN array_to_string(m.problems, '; ')
              WHEN NOT m.complete THEN 'no insert row in the log: never due' ELSE 'it cannot be read' END
    FROM mana_ai.fleet_missions AS m
   WHERE (m.problems <> '{}' OR NOT m.complete OR NOT m.readable)
     AND (m.decision IN ('skipped-unreadable', 'skipped-missing-agent', 'skipped-inputs') AND m.state = 'active' AND NOT m.hidden) IS NOT TRUE),
aside AS (
  SELECT 'quarantined', q.user_id, NULL, NULL, q.change_id::text, q.seen_at, q.table_name || '/' || q.record_id, q.reason
    FROM mana_ai.fleet_quarantine AS q),
every AS (
  SELECT t.* FROM (SELECT * FROM stuck WHERE $3::text IS NULL OR $3 = 'stuck' UNION ALL SELECT * FROM overdue WHERE $3 IS NULL OR $3 = 'overdue'
  UNION ALL SELECT * FROM blocked WHERE $3 IS NULL OR $3 IN ('failed', 'budget', 'grant', 'damaged')
  UNION ALL SELECT * FROM damaged WHERE $3 IS NULL OR $3 = 'damaged' UNION ALL SELECT * FROM aside WHERE $3 IS NULL OR $3 = 'quarantined') AS t
   WHERE ($7::text IS NULL OR t.user_id = $7) AND ($8::text IS NULL OR t.agent_id = $8))
SELECT g.trouble, c.count, t.user_id, t.agent_id, t.mission_id, t.id, t.since, t.word, t.reason
  FROM unnest(ARRAY['stuck', 'failed', 'overdue', 'budget', 'grant', 'damaged', 'quarantined']) WITH ORDINALITY AS g (trouble, place)
 CROSS JOIN LATERAL (SELECT count(*) AS count FROM (SELECT FROM every AS e WHERE e.trouble = g.trouble LIMIT 1001) AS seen) AS c
  LEFT JOIN LATERAL (SELECT * FROM every AS e WHERE e.trouble = g.trouble AND ($4::text IS NULL OR (e.user_id, e.id) > ($4, $5::text))
                      ORDER BY e.user_id, e.id LIMIT $6) AS t ON true
 WHERE $3::text IS NULL OR g.trouble = $3
 ORDER BY g.place, t.user_id, t.id

-- unknown --
-- The first of these names that nobody has; null where each is somebody's. The default agent is everybody's.
SELECT CASE
  WHEN $1::text IS NOT NULL AND NOT EXISTS (SELECT FROM mana_ai.fleet_missions WHERE user_id = $1)
       AND NOT EXISTS (SELECT FROM mana_ai.fleet_agents WHERE user_id = $1) AND NOT EXISTS (SELECT FROM mana_ai.fleet_runs WHERE user_id = $1)
       AND NOT EXISTS (SELECT FROM mana_ai.fleet_quarantine WHERE user_id = $1) AND NOT EXISTS (SELECT FROM mana_ai.people WHERE user_id = $1) THEN 'user'
  WHEN $2::text <> $4::text AND NOT EXISTS (SELECT FROM mana_ai.fleet_agents WHERE agent_id = $2 AND user_id = coalesce($1, user_id))
       AND NOT EXISTS (SELECT FROM mana_ai.fleet_missions WHERE agent_id = $2 AND user_id = coalesce($1, user_id))
       AND NOT EXISTS (SELECT FROM mana_ai.fleet_runs WHERE agent_id = $2 AND user_id = coalesce($1, user_id)) THEN 'agent'
  WHEN $3::text IS NOT NULL AND NOT EXISTS (SELECT FROM mana_ai.fleet_missions WHERE mission_id = $3 AND user_id = coalesce($1, user_id))
       AND NOT EXISTS (SELECT FROM mana_ai.fleet_runs WHERE mission_id = $3 AND user_id = coalesce($1, user_id)) THEN 'mission'
  END

-- request_run --
SELECT due_at, created FROM mana_ai.request_run($1, $2, $3)

-- save_time_zone --
INSERT INTO mana_ai.user_settings AS s (user_id, time_zone) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET time_zone = excluded.time_zone, updated_at = clock_timestamp()

-- state_now --
SELECT snapshot, changes, clock_timestamp() AS now FROM mana_ai.state_now($1, $2, $3)

-- write_state --
SELECT mana_ai.write_state(:user, :table, :record, :wish, :stamp, :actor::jsonb)

-- owner_of_run --
SELECT user_id FROM mana_ai.fleet_runs WHERE run_id = $1

-- live_run --
SELECT run_id FROM mana_ai.fleet_runs WHERE user_id = $1 AND mission_id = $2 AND state IN ('open', 'waiting')

-- cancel_run --
SELECT outcome, state, agent_id, mission_id FROM mana_ai.cancel_run($1, $2, $3)

-- policy_of_agent --
-- One field of the record: the rest is the owner's.
SELECT record -> 'policy' AS policy FROM mana_ai.agent_snapshots WHERE user_id = $1 AND agent_id = $2

-- has_agent --
SELECT EXISTS (SELECT FROM mana_ai.agent_snapshots WHERE user_id = $1 AND agent_id = $2)
    OR EXISTS (SELECT FROM mana_ai.mission_snapshots WHERE user_id = $1 AND agent_id = $2)

-- budgets --
-- In the user's place: the agent's own budget first, then the wider limits that are set.
SELECT b.scope, b.source, b.cap, b.used, b.held, b.micros_cap, b.micros_used, b.micros_held,
       CASE WHEN b.cap IS NOT NULL THEN mana_ai.room_at(b.scope, $1, $2, clock_timestamp() - interval '24 hours', 'tokens',
            greatest(1, b.used - b.cap + 1))
            WHEN b.micros_cap IS NOT NULL THEN mana_ai.room_at(b.scope, $1, $2, clock_timestamp() - interval '24 hours', 'money',
            greatest(1, b.micros_used - b.micros_cap + 1)) END AS back_at
  FROM mana_ai.budgets_of($1, $2, ARRAY['agent', 'user', 'installation']) AS b

-- spent --
-- Under limits that are set: one statement for all that a page shows.
SELECT s.place, s.scope, s.source, s.cap, s.used, s.held, s.micros_cap, s.micros_used, s.micros_held
  FROM mana_ai.spent_under(:kinds, :users, :agents) AS s

-- limits --
SELECT kind, user_id, agent_id, tokens, micros, set_at FROM mana_ai.limits
 ORDER BY array_position(ARRAY['installation', 'each-user', 'each-agent', 'user', 'agent'], kind), user_id, agent_id

-- set_limit --
SELECT mana_ai.set_limit(:kind, :user, :agent, :tokens, :micros, :sets_tokens, :sets_micros)

-- take_requests --
SELECT * FROM mana_ai.take_copy_requests($1, $2)

-- granted_inputs --
SELECT jsonb_build_object('inputs', record -> 'inputs', 'grant', record -> 'grant')
  FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2 AND complete AND NOT hidden

-- copy_source --
SELECT * FROM mana_ai.copy_source($1, $2, $3, $4, $5, $6)

-- kept_copies --
SELECT table_name, record_id, source, (extract(epoch FROM written_at) * 1000000)::bigint AS written_us
  FROM mana_ai.sealed_copies WHERE user_id = $1 AND mission_id = $2

-- put_copies --
SELECT mana_ai.put_sealed_copies($1, $2, $3::jsonb)

-- answer_copies --
SELECT mana_ai.answer_copies($1, $2, $3, $4)

-- own_record --
SELECT owner, space, is_member, snapshot, changes, now FROM mana_ai.own_record(:user, :spaces, :app, :table, :record, :hold)

-- own_write --
SELECT id, created_us FROM mana_ai.own_write(:user, :spaces, :app, :table, :record, :op, :data, :meta, :client, :actor, :origin, :space)

-- open_answer --
-- A request under the same key that is under way is waited for: its row is there, but not ours to see yet.
INSERT INTO mana_ai.own_answers (user_id, key, request) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true

-- kept_answer --
SELECT request, status, answer FROM mana_ai.own_answers WHERE user_id = $1 AND key = $2

-- keep_answer --
UPDATE mana_ai.own_answers SET status = $3, answer = $4 WHERE user_id = $1 AND key = $2

-- own_records --
SELECT id, space, snapshot, changes, clock_timestamp() AS now FROM mana_ai.own_records($1, $2, $3, $4)

-- own_ids --
SELECT record_id FROM mana_ai.own_ids($1, $2, $3, $4)

-- time_zone --
SELECT time_zone FROM mana_ai.user_settings WHERE user_id = $1

-- unstaged --
SELECT user_id, mission_id, version FROM mana_ai.fleet_unstaged
 WHERE $1::text IS NULL OR (user_id, mission_id) > ($1, $2::text) ORDER BY user_id, mission_id LIMIT $3

-- to_stage_of_user --
SELECT mission_id FROM mana_ai.missions_to_stage($1) ORDER BY mission_id

-- proposals_of_mission --
SELECT * FROM mana_ai.proposals WHERE user_id = $1 AND mission_id = $2

-- add_proposal --
INSERT INTO mana_ai.proposals (user_id, proposal_id, mission_id, iteration_id, step_id, agent_id, agent_name, tool, params, rationale,
                               created_at, expires_at, state, decided_by, decided_at, reason)
VALUES (:user, :id, :mission, :iteration, :step, :agent, :agent_name, :tool, :params::jsonb, :rationale, :created_at, :expires_at,
        :state, :decided_by, :decided_at, :reason)
    ON CONFLICT DO NOTHING

-- save_proposal --
UPDATE mana_ai.proposals
   SET state = :state, not_before = :not_before, edited = :edited::jsonb, decided_by = :decided_by, decided_at = :decided_at,
       decided_address = :decided_address, decided_client = :decided_client, approval_id = :approval, feedback = :feedback,
       reason = :reason, written = :written::jsonb, claimed_by = :claimed_by, claimed_until = :claimed_until
 WHERE user_id = :user AND proposal_id = :id

-- find_proposal --
SELECT * FROM mana_ai.proposals WHERE user_id = $1 AND proposal_id = $2

-- proposals --
SELECT * FROM mana_ai.proposals
 WHERE user_id = :user AND (:state::text IS NULL OR state = :state) AND (:mission::text IS NULL OR mission_id = :mission)
   AND (:agent::text IS NULL OR agent_id = :agent) AND (NOT :due OR not_before IS NULL OR not_before <= clock_timestamp())
   AND (:before_at::timestamptz IS NULL OR (created_at, proposal_id) < (:before_at, :before_id::uuid))
 ORDER BY created_at DESC, proposal_id DESC LIMIT :limit

-- late_proposals --
SELECT user_id, mission_id FROM mana_ai.late_proposals($1)

-- proposals_of_iteration --
SELECT * FROM mana_ai.proposals WHERE user_id = $1 AND iteration_id = $2 ORDER BY decided_at DESC, step_id DESC

-- own_table --
SELECT record_id, id, op, data, field_meta, created_us, left_out FROM mana_ai.own_table($1, $2, $3, $4)

-- own_is_sealed --
SELECT mana_ai.own_is_sealed($1, $2, $3)

-- standing_approvals --
SELECT a.*, (SELECT count(*) FROM mana_ai.proposals AS p WHERE p.user_id = a.user_id AND p.approval_id = a.approval_id
                AND p.decided_at > clock_timestamp() - interval '24 hours') AS used_today
  FROM mana_ai.standing_approvals AS a WHERE a.user_id = $1 AND ($2 OR a.revoked_at IS NULL) ORDER BY a.created_at DESC, a.approval_id LIMIT 500

-- add_standing_approval --
INSERT INTO mana_ai.standing_approvals (user_id, approval_id, agent_id, tool, module, until, per_day, created_address, created_client)
VALUES (:user, :id, :agent, :tool, :module, :until, :per_day, :address, :client) ON CONFLICT DO NOTHING

-- revoke_standing_approval --
UPDATE mana_ai.standing_approvals SET revoked_at = clock_timestamp() WHERE user_id = $1 AND approval_id = $2 AND revoked_at IS NULL

-- now --
SELECT clock_timestamp()

-- last_decisions --
SELECT DISTINCT ON (due_at) due_at, decision, reason FROM mana_ai.decisions
 WHERE user_id = $1 AND mission_id = $2 AND due_at >= $3 ORDER BY due_at DESC, id DESC LIMIT 500

-- sync_publish --
SELECT mana_ai.sync_publish($1, $2, $3, $4)

-- sync_page --
SELECT * FROM mana_ai.sync_page(:user, :spaces, :app, :table, :client, :since, :slot, :until, :rows, :bytes)

-- sync_push --
SELECT n, status, created_us FROM mana_ai.sync_push(:user, :spaces, :app, :client, :rows::jsonb)

-- sync_there --
SELECT n, created_us FROM mana_ai.sync_there($1, $2, $3::jsonb)

-- sync_history --
SELECT * FROM mana_ai.sync_history(:user, :spaces, :app, :client, :rows::jsonb, :most)

-- sync_watch --
SELECT feed, until, is_noted FROM mana_ai.sync_watch($1)

-- sync_touched --
SELECT app_id, table_name, client FROM mana_ai.sync_touched(:user, :spaces, :since, :until)

-- sync_settle --
SELECT forgotten, published, oldest_s FROM mana_ai.sync_settle($1, $2)

-- openings --
-- The newest first; of one person, or of all for operators. Which of the person's are new to them.
SELECT o.opening_id, o.user_id, o.agent_id, o.run_id, o.reason, o.opened_by, o.address, o.user_agent, o.at, o.ends_at,
       coalesce(o.at > s.seen_at, true) AS is_new
  FROM mana_ai.openings AS o LEFT JOIN mana_ai.openings_seen AS s ON s.user_id = o.user_id
 WHERE (:user::text IS NULL OR o.user_id = :user)
   AND (:before_at::timestamptz IS NULL OR (o.at, o.opening_id) < (:before_at, :before_id::uuid))
 ORDER BY o.at DESC, o.opening_id DESC LIMIT :limit

-- add_opening --
INSERT INTO mana_ai.openings (user_id, agent_id, run_id, reason, opened_by, address, user_agent, ends_at)
VALUES (:user, :agent, :run, :reason, :by, :address, :user_agent, clock_timestamp() + :life::interval)
RETURNING opening_id, at, ends_at

-- live_opening --
-- The one by which these texts may still be shown to this operator.
SELECT opening_id, reason, at, ends_at FROM mana_ai.openings
 WHERE user_id = $1 AND agent_id = $2 AND opened_by = $3 AND ends_at > clock_timestamp() ORDER BY ends_at DESC LIMIT 1

-- openings_seen --
-- Up to one of them, so that a later one is not passed over with it.
INSERT INTO mana_ai.openings_seen AS s (user_id, seen_at)
SELECT $1, at FROM mana_ai.openings WHERE user_id = $1 AND opening_id = $2
ON CONFLICT (user_id) DO UPDATE SET seen_at = greatest(s.seen_at, excluded.seen_at)
RETURNING true
