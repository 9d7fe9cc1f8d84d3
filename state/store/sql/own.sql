-- What a person reads of their own, as the role mana_gateway in that person's place. Row security and the statement's own filter
-- hold to the one named with act_as; own_log does, too, and to the spaces named beside.

-- runs --
SELECT run_id, mission_id, agent_id, due_at, requested, state, attempt, failures, lost, waiting_for, not_before, reason, stop_reason,
       iteration_id, steps, tokens, opened_at, claimed_at, closed_at, duplicate_calls, dropped_calls, refused_calls
  FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2 AND ($3::timestamptz IS NULL OR due_at < $3) ORDER BY due_at DESC LIMIT $4

-- run --
SELECT run_id, mission_id, agent_id, due_at, requested, state, attempt, failures, lost, waiting_for, not_before, reason, stop_reason,
       iteration_id, steps, tokens, opened_at, claimed_at, closed_at, duplicate_calls, dropped_calls, refused_calls
  FROM mana_ai.runs WHERE user_id = $1 AND run_id = $2

-- calls --
-- Settled calls by what they cost, those under way by what they hold, each with what the run has noted of it by number.
WITH run AS (SELECT * FROM mana_ai.runs WHERE user_id = $1 AND run_id = $2),
made AS (
  SELECT t.round AS number, NULL::timestamptz AS began_at, t.ts AS ended_at, t.tokens_used AS tokens, t.cost_micros
    FROM mana_ai.token_usage AS t JOIN run AS r ON t.user_id = r.user_id AND t.agent_id = r.agent_id AND t.ts >= r.opened_at
     AND t.run_id = r.run_id
  UNION ALL
  SELECT h.round, h.opened_at, NULL, h.tokens, NULL
    FROM mana_ai.token_holds AS h JOIN run AS r ON h.user_id = r.user_id AND h.agent_id = r.agent_id AND h.run_id = r.run_id)
SELECT m.*, n.note ->> 'provider' AS provider, n.note ->> 'model' AS model, n.note ->> 'exposure' AS exposure,
       coalesce((n.note ->> 'cached_tokens')::bigint, 0) AS cached_tokens, coalesce((n.note ->> 'wasted_tokens')::bigint, 0) AS wasted_tokens,
       coalesce((n.note ->> 'completion_tokens')::bigint, 0) AS completion_tokens, coalesce((n.note ->> 'took_ms')::bigint, 0) AS took_ms,
       ARRAY(SELECT jsonb_array_elements_text(coalesce(n.note -> 'refused', '[]'))) AS refused,
       ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(n.note -> 'tools') WHEN 'array' THEN n.note -> 'tools' ELSE '[]' END)) AS tools,
       coalesce(n.note -> 'parts', '{}')::text AS parts, coalesce(n.note -> 'inputs', '[]')::text AS inputs
  FROM made AS m CROSS JOIN run AS r CROSS JOIN LATERAL (SELECT r.answers -> m.number::text AS note) AS n
 ORDER BY coalesce(m.ended_at, m.began_at), m.number

-- decisions --
SELECT decision, reason, at FROM mana_ai.decisions WHERE user_id = $1 AND mission_id = $2 AND due_at = $3 ORDER BY id LIMIT 200

-- readings --
SELECT d.table_name, d.record_id, d.status, d.reason, d.ts
  FROM mana_ai.decrypt_audit AS d JOIN mana_ai.runs AS r ON r.user_id = d.user_id AND r.mission_id = d.mission_id AND r.run_id = d.run_id
 WHERE d.user_id = $1 AND d.run_id = $2 ORDER BY d.ts, d.id LIMIT 1000

-- events --
-- Everything here is durable before anybody hears of it, so whoever asks again from an earlier time hears the same.
WITH runs AS (
  SELECT * FROM mana_ai.runs WHERE user_id = :user AND mission_id = :mission AND (:run::uuid IS NULL OR run_id = :run)
     AND (closed_at IS NULL OR closed_at >= :since)),
told AS (
  SELECT at, 'decision' AS kind, id::text AS key, NULL::uuid AS run_id, jsonb_build_object('decision', decision, 'reason', reason) AS told
    FROM mana_ai.decisions WHERE user_id = :user AND mission_id = :mission AND at >= :since
     AND (:run::uuid IS NULL OR due_at IN (SELECT due_at FROM runs))
  UNION ALL
  SELECT opened_at, 'run-opened', run_id::text, run_id, jsonb_build_object('dueAt', due_at, 'requested', requested) FROM runs
  UNION ALL
  SELECT claimed_at, 'run-taken-over', run_id::text || '.' || attempt, run_id, jsonb_build_object('attempt', attempt) FROM runs
   WHERE attempt > 1
  UNION ALL
  SELECT h.opened_at, 'call-began', h.call_id::text, h.run_id, jsonb_build_object('number', h.round, 'tokensHeld', h.tokens)
    FROM mana_ai.token_holds AS h JOIN runs AS r ON h.user_id = r.user_id AND h.agent_id = r.agent_id AND h.run_id = r.run_id
  UNION ALL
  SELECT t.ts, 'call-ended', coalesce(t.call_id::text, t.id::text), t.run_id,
         jsonb_build_object('number', t.round, 'tokens', t.tokens_used, 'costMicros', t.cost_micros, 'tokensSoFar', r.tokens,
                            'model', r.answers -> t.round::text -> 'model', 'tools', coalesce(r.answers -> t.round::text -> 'tools', '[]'),
                            'tookMs', r.answers -> t.round::text -> 'took_ms')
    FROM mana_ai.token_usage AS t JOIN runs AS r ON t.user_id = r.user_id AND t.agent_id = r.agent_id AND t.ts >= r.opened_at
     AND t.run_id = r.run_id
  UNION ALL
  SELECT d.ts, 'read', d.id::text, d.run_id, jsonb_build_object('table', d.table_name, 'record', d.record_id, 'status', d.status)
    FROM mana_ai.decrypt_audit AS d JOIN runs AS r ON d.user_id = r.user_id AND d.mission_id = r.mission_id AND d.run_id = r.run_id
   WHERE d.ts >= :since
  UNION ALL
  SELECT closed_at, 'run-closed', run_id::text || '.' || attempt, run_id,
         jsonb_build_object('state', state, 'reason', reason, 'iterationId', iteration_id, 'steps', steps, 'tokens', tokens,
                            'refused', (SELECT coalesce(jsonb_object_agg(a.key, a.value -> 'refused'), '{}') FROM jsonb_each(answers) AS a
                                         WHERE a.value -> 'refused' <> '[]'))
    FROM runs WHERE closed_at IS NOT NULL)
SELECT at, kind, key, run_id, told::text AS told FROM told WHERE at >= :since ORDER BY at, kind, key LIMIT :limit

-- live_since --
SELECT coalesce((SELECT opened_at FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2 AND state IN ('open', 'waiting')), clock_timestamp())

-- logged_iterations --
-- The newest version of the array that has one older than a time. The next page begins at the row that this one came from, so
-- that each row is looked at for one page or two.
SELECT data ->> 'iterations' AS iterations, created_at FROM mana_ai.own_log
 WHERE app_id = 'ai' AND table_name = 'aiMissions' AND record_id = $1 AND jsonb_typeof(data -> 'iterations') = 'array'
   AND ($3::timestamptz IS NULL OR created_at <= $3)
   AND EXISTS (SELECT FROM jsonb_array_elements(data -> 'iterations') AS i WHERE (i ->> 'startedAt') COLLATE "C" < $2)
 ORDER BY created_at DESC, id DESC LIMIT 1

-- runs_of_iterations --
SELECT iteration_id, run_id FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2 AND iteration_id = ANY ($3::text[])

-- tables --
SELECT app_id AS app, table_name AS "table", count(DISTINCT record_id) AS records, count(*) AS rows FROM mana_ai.own_log GROUP BY 1, 2 ORDER BY 1, 2

-- records --
-- Whole records or none: half a record's rows merge into what never was. A record too large for a page has one row without id.
WITH sized AS MATERIALIZED (
  SELECT table_name, record_id, coalesce(sum(length(data::text) + 200), 0) AS size FROM mana_ai.own_log
   WHERE app_id = :app AND (:table::text IS NULL OR table_name = :table)
     AND (:after_table::text IS NULL OR (table_name, record_id) > (:after_table, :after_record::text)) AND length(record_id) <= 512
   GROUP BY 1, 2 ORDER BY 1, 2 LIMIT :limit),
page AS MATERIALIZED (
  SELECT table_name, record_id, size <= :bytes AS fits,
         sum(CASE WHEN size <= :bytes THEN size ELSE 0 END) OVER (ORDER BY table_name, record_id) AS so_far FROM sized)
SELECT p.table_name, p.record_id, c.id, c.user_id, c.op, c.data, c.field_meta, c.actor::text AS actor, c.origin, c.client_id,
       (extract(epoch FROM c.created_at) * 1000000)::bigint AS created_us
  FROM page AS p
  LEFT JOIN mana_ai.own_log AS c ON p.fits AND c.app_id = :app AND c.table_name = p.table_name AND c.record_id = p.record_id
 WHERE p.so_far <= :bytes
 ORDER BY p.table_name, p.record_id, c.created_at, c.id

-- record --
WITH sized AS (
  SELECT coalesce(sum(length(data::text) + 200), 0) <= $4 AS fits, count(*) AS rows FROM mana_ai.own_log
   WHERE app_id = $1 AND table_name = $2 AND record_id = $3)
SELECT c.id, c.user_id, c.op, c.data, c.field_meta, c.actor::text AS actor, c.origin, c.client_id,
       (extract(epoch FROM c.created_at) * 1000000)::bigint AS created_us
  FROM sized LEFT JOIN mana_ai.own_log AS c ON sized.fits AND c.app_id = $1 AND c.table_name = $2 AND c.record_id = $3
 WHERE sized.rows > 0
 ORDER BY c.created_at, c.id

-- sealed_records --
-- Of these records the person's own that ever had a sealed field: only such a record needs a grant.
SELECT w.table_name, w.record_id FROM unnest($1::text[], $2::text[], $3::text[]) AS w (app_id, table_name, record_id)
 WHERE EXISTS (SELECT FROM mana_ai.own_log AS c WHERE c.app_id = w.app_id AND c.table_name = w.table_name AND c.record_id = w.record_id
                  AND position('"enc:1:' IN c.data::text) > 0)

-- timeline --
-- Rows without what they say, which may be large: who wrote them is decided where actors are understood, and more are read than shown.
SELECT id, created_at, app_id, table_name, record_id, op, actor::text AS actor, origin, client_id, space_id
  FROM mana_ai.own_log
 WHERE (:app::text IS NULL OR app_id = :app) AND (:table::text IS NULL OR table_name = :table)
   AND (:record::text IS NULL OR record_id = :record)
   AND (:before_at::timestamptz IS NULL OR (created_at, id) < (:before_at, :before_id::uuid))
 ORDER BY created_at DESC, id DESC LIMIT :limit

-- fields_written --
SELECT id, ARRAY(SELECT jsonb_object_keys(CASE jsonb_typeof(data) WHEN 'object' THEN data ELSE '{}' END)) AS fields
  FROM mana_ai.own_log WHERE id = ANY ($1::uuid[])

-- kept --
SELECT count(*) FILTER (WHERE op = 'insert') AS records,
       coalesce(sum(200 + coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(field_meta), 0)), 0)::bigint AS bytes
  FROM mana_ai.own_log WHERE user_id = $1

-- head --
-- What the head of every page of a person says: their zone, and how many proposals wait for an answer; whether plans of theirs are
-- to be put to them first; and how many times an operator opened their texts since they last said that they saw it.
SELECT (SELECT time_zone FROM mana_ai.user_settings WHERE user_id = $1) AS time_zone,
       (SELECT count(*) FROM mana_ai.proposals WHERE user_id = $1 AND state IN ('pending', 'refused')
           AND (not_before IS NULL OR not_before <= clock_timestamp())) AS waiting,
       EXISTS (SELECT FROM mana_ai.missions_to_stage($1)) AS awaits_staging,
       (SELECT count(*) FROM mana_ai.openings AS o WHERE o.user_id = $1
           AND o.at > coalesce((SELECT seen_at FROM mana_ai.openings_seen WHERE user_id = $1), '-infinity')) AS opened

-- pulse --
-- Another text whenever a page of this person may show something else: records by version, decisions, live runs with their calls,
-- looks at granted records, openings by operators, and the newest proposals, which are all that an inbox shows.
SELECT md5(concat_ws('|',
  (SELECT concat(count(*), ' ', sum(version), ' ', max(decided_at)) FROM mana_ai.mission_snapshots WHERE user_id = $1),
  (SELECT concat(count(*), ' ', sum(version)) FROM mana_ai.agent_snapshots WHERE user_id = $1),
  (SELECT string_agg(concat(run_id, state, attempt, model_calls), ' ' ORDER BY run_id) FROM mana_ai.runs
    WHERE user_id = $1 AND state IN ('open', 'waiting')),
  (SELECT concat(count(*), ' ', max(opened_at)) FROM mana_ai.token_holds WHERE user_id = $1),
  (SELECT max(at) FROM mana_ai.openings WHERE user_id = $1), (SELECT seen_at FROM mana_ai.openings_seen WHERE user_id = $1),
  (SELECT max(ts) FROM mana_ai.key_releases WHERE user_id = $1), (SELECT max(ts) FROM mana_ai.decrypt_audit WHERE user_id = $1),
  (SELECT string_agg(concat(proposal_id, state, not_before), ' ') FROM (
     SELECT proposal_id, state, not_before FROM mana_ai.proposals WHERE user_id = $1 ORDER BY created_at DESC, proposal_id LIMIT 200) AS p)))

-- history --
-- What became of a person's missions: each run, and of each due time without one what was decided last.
SELECT mission_id, agent_id, due_at, at, kind, state, reason, run_id, steps, tokens, requested FROM (
  SELECT r.mission_id, r.agent_id, r.due_at, coalesce(r.closed_at, r.claimed_at) AS at, 'run' AS kind, r.state, r.reason, r.run_id, r.steps,
         r.tokens, r.requested,
         CASE r.state WHEN 'committed' THEN 'ran' WHEN 'failed' THEN 'failed' WHEN 'withdrawn' THEN 'not-run' ELSE 'under-way' END AS outcome
    FROM mana_ai.runs AS r
   WHERE r.user_id = :user AND (:agent::text IS NULL OR r.agent_id = :agent) AND (:mission::text IS NULL OR r.mission_id = :mission)
     AND r.claimed_at >= :since
  UNION ALL
  SELECT d.*, 'not-run' FROM (
    SELECT DISTINCT ON (d.mission_id, d.due_at) d.mission_id, d.agent_id, d.due_at, d.at, 'decision', d.decision, d.reason, NULL::uuid,
           NULL::integer, 0::bigint, false
      FROM mana_ai.decisions AS d
     WHERE d.user_id = :user AND (:agent::text IS NULL OR d.agent_id = :agent) AND (:mission::text IS NULL OR d.mission_id = :mission)
       AND d.at >= :since AND d.due_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = :user AND r.mission_id = d.mission_id AND r.due_at = d.due_at)
     ORDER BY d.mission_id, d.due_at, d.id DESC) AS d) AS told
 WHERE (:outcome::text IS NULL OR outcome = :outcome)
   AND (:before_at::timestamptz IS NULL OR (at, mission_id, due_at) < (:before_at, :before_mission::text, :before_due::timestamptz))
 ORDER BY at DESC, mission_id DESC, due_at DESC LIMIT :limit

-- use_by_day --
SELECT agent_id, mission_id, (ts AT TIME ZONE $2)::date AS day, sum(tokens_used)::bigint AS tokens, sum(cost_micros)::bigint AS micros
  FROM mana_ai.token_usage WHERE user_id = $1 AND ts >= $3 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- use_of_agent --
-- What an agent used by day, mission and model; a call whose run is forgotten, or whose price nobody knows, counts as without price.
SELECT t.mission_id, coalesce(n.note ->> 'model', '') AS model, (t.ts AT TIME ZONE $3)::date AS day, sum(t.tokens_used)::bigint AS tokens,
       sum(t.cost_micros)::bigint AS micros, count(*) FILTER (WHERE n.note ->> 'cost_micros' IS NULL) AS unpriced
  FROM mana_ai.token_usage AS t LEFT JOIN mana_ai.runs AS r ON r.user_id = t.user_id AND r.run_id = t.run_id
 CROSS JOIN LATERAL (SELECT r.answers -> t.round::text AS note) AS n
 WHERE t.user_id = $1 AND t.agent_id = $2 AND t.ts >= $4 GROUP BY 1, 2, 3 ORDER BY 3, 1, 2

-- versions_of_agent --
-- Its missions' rows by id, to lay beside what its process holds; the agent's own has no id.
SELECT '' AS id, version FROM mana_ai.agent_snapshots WHERE user_id = $1 AND agent_id = $2
UNION ALL
SELECT mission_id, version FROM mana_ai.mission_snapshots WHERE user_id = $1 AND agent_id = $2 AND NOT hidden

-- runs_between --
-- Also those that were under way when a time began, which say what later ones were missed for.
SELECT run_id, mission_id, agent_id, due_at, requested, state, attempt, failures, lost, waiting_for, not_before, reason, stop_reason,
       iteration_id, steps, tokens, opened_at, claimed_at, closed_at, duplicate_calls, dropped_calls, refused_calls
  FROM mana_ai.runs WHERE user_id = $1 AND due_at < $3 AND (due_at >= $2 OR closed_at >= $2 OR closed_at IS NULL)
 ORDER BY due_at DESC LIMIT $4

-- decided_between --
SELECT DISTINCT ON (mission_id, due_at) mission_id, due_at, decision, reason FROM mana_ai.decisions
 WHERE user_id = $1 AND due_at >= $2 AND due_at < $3 ORDER BY mission_id, due_at, id DESC LIMIT $4
