-- Rows that benches write, and what they look at; by name, as in state/store/sql/*.sql.

-- missions --
-- Missions <prefix><user>-<number> of users u1 …, all due at one instant.
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, client_id, origin)
SELECT 'ai', 'aiMissions', $1 || n || '-' || k, 'u' || n, 'insert', jsonb_build_object(
         'id', $1 || n || '-' || k, 'title', 'Week', 'objective', 'Plan the week', 'conceptMarkdown', '',
         'inputs', '[]'::jsonb, 'iterations', '[]'::jsonb, 'state', 'active', 'agentId', 'planner',
         'cadence', '{"kind": "daily", "atHour": 7, "atMinute": 0}'::jsonb,
         'nextRunAt', to_char($4::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
       'bench', 'user'
  FROM generate_series(1, $2::int) AS n, generate_series(1, $3::int) AS k

-- agents --
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, client_id, origin)
SELECT 'ai', 'agents', 'planner', 'u' || n, 'insert',
       jsonb_build_object('id', 'planner', 'name', 'Planner', 'role', '', 'state', 'active', 'maxConcurrentMissions', $2::int),
       'bench', 'user'
  FROM generate_series(1, $1::int) AS n

-- changes --
-- $3 changes in a row go to one of $4 missions, then the next has its turn; the first of each is its insert.
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, origin)
SELECT 'ai', 'aiMissions', 'm' || m, 'u' || m % 500, op,
       CASE op WHEN 'insert' THEN jsonb_build_object('id', 'm' || m, 'title', 'Week ' || m, 'objective', 'Plan the week',
              'conceptMarkdown', repeat('text ', 40), 'inputs', '[]'::jsonb, 'iterations', '[]'::jsonb, 'state', 'active',
              'cadence', '{"kind": "daily", "atHour": 7, "atMinute": 0}'::jsonb, 'nextRunAt', '2099-01-01T07:00:00.000Z')
            ELSE jsonb_build_object('title', 'Week ' || i, 'updatedAt', stamp) END,
       CASE op WHEN 'insert' THEN '{}' ELSE jsonb_build_object('title', stamp, 'updatedAt', stamp) END, 'bench', at, 'user'
  FROM (SELECT i, i / $3 % $4 AS m, CASE WHEN i % $3 = 0 AND i / $3 < $4 THEN 'insert' ELSE 'update' END AS op,
               timestamptz '2026-06-01 00:00Z' + i * interval '1 ms' AS at,
               to_char(timestamp '2026-06-01' + i * interval '1 ms', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS stamp
          FROM generate_series($1::int, $2::int - 1) AS i) AS k

-- edges --
-- The instant of every $1-th row of the log.
SELECT created_at FROM (SELECT created_at, row_number() OVER (ORDER BY created_at) AS n FROM public.sync_changes) AS k
 WHERE n % $1 = 0 ORDER BY 1

-- wrong_snapshots --
SELECT count(*) FROM mana_ai.mission_snapshots AS s WHERE folded_count <>
       (SELECT count(*) FROM public.sync_changes AS c
         WHERE c.user_id = s.user_id AND c.app_id = 'ai' AND c.table_name = 'aiMissions' AND c.record_id = s.mission_id)

-- loop_table --
CREATE TABLE bench_snapshots (user_id text, record_id text, record jsonb NOT NULL, last_applied_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, record_id))

-- loop_stale --
SELECT user_id, record_id, max(created_at) AS newest FROM public.sync_changes
 WHERE app_id = 'ai' AND table_name = 'aiMissions' AND created_at > $1 AND created_at <= $2 GROUP BY 1, 2

-- loop_rows --
SELECT id, op, data, field_meta, created_at, (extract(epoch FROM created_at) * 1000000)::bigint AS created_us
  FROM public.sync_changes
 WHERE user_id = $1 AND app_id = 'ai' AND table_name = 'aiMissions' AND record_id = $2 AND created_at > $3 AND created_at <= $4
 ORDER BY created_at, id

-- loop_read --
SELECT record, last_applied_at FROM bench_snapshots WHERE user_id = $1 AND record_id = $2

-- loop_write --
INSERT INTO bench_snapshots VALUES ($1, $2, $3::jsonb, $4)
ON CONFLICT (user_id, record_id) DO UPDATE SET record = excluded.record, last_applied_at = excluded.last_applied_at

-- other_apps --
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, origin)
SELECT 'todo', 'tasks', 't' || i, 'u' || i % $3, 'update', jsonb_build_object('title', 'Task ' || i, 'done', false), '{}', 'bench',
       timestamptz '2026-01-01 00:00Z' + i * interval '1 s', 'user'
  FROM generate_series($1::int, $2::int) AS i

-- feed --
INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
SELECT i % 256, gen_random_uuid(), 'u' || i % 1000, 'aiMissions', 'm' || i FROM generate_series(1, $1::int) AS i

-- herd --
SELECT count(*) AS runs, count(*) FILTER (WHERE state <> 'committed') AS unfinished, min(opened_at) AS first, max(closed_at) AS last,
       sum(model_calls) AS calls
  FROM mana_ai.runs WHERE starts_with(mission_id, $1)

-- run --
SELECT opened_at, closed_at, state FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2

-- past_runs --
-- For each mission of the log $1 runs that are over, one a day, and the decisions about them.
WITH over AS (
  INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, reason, iteration_id, steps, tokens, model_calls,
                            opened_at, claimed_at, closed_at)
  SELECT m.user_id, m.agent_id, m.mission_id, at, CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'committed' END, NULL, 'i' || n, 2, 2400, 2,
         at, at, at + interval '3 seconds'
    FROM mana_ai.mission_snapshots AS m, generate_series(1, $1::int) AS n,
         LATERAL (SELECT now() - n * interval '1 day' - random() * interval '1 hour') AS t (at)
  RETURNING user_id, agent_id, mission_id, due_at, state)
INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, at)
SELECT user_id, mission_id, agent_id, due_at, CASE state WHEN 'failed' THEN 'failed' ELSE 'ran' END, due_at FROM over
