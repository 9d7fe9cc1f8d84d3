-- What one agent's process runs. What writes goes through functions, which are given the capability; what is read here
-- directly runs in a transaction that presented it.

-- agent_snapshot --
SELECT record, version, state, hidden FROM mana_ai.agent_snapshots WHERE user_id = $1 AND agent_id = $2

-- mission_snapshot --
SELECT record, version, hidden, clock_timestamp() AS now FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2

-- input_rows --
-- A record that is an input of a mission, as the capability lets this agent see it.
SELECT id, op, data, field_meta, (extract(epoch FROM created_at) * 1000000)::bigint AS created_us
  FROM public.sync_changes WHERE user_id = $1 AND app_id = $2 AND table_name = $3 AND record_id = $4 ORDER BY created_at, id

-- table_rows --
-- All rows, up to :until, of the records of a table that changed last, as the capability shows them: whole records or none,
-- since half a record's rows merge into what never was. Their number, and the bytes of each and of all, are bounded.
WITH sized AS MATERIALIZED (
  SELECT record_id, max(created_at) AS newest, sum(length(data::text)) AS size FROM public.sync_changes
   WHERE user_id = :user AND app_id = :app AND table_name = :table AND created_at <= :until AND length(record_id) <= 512 GROUP BY record_id),
ranked AS MATERIALIZED (
  SELECT record_id, row_number() OVER w AS place, sum(size) OVER w AS so_far FROM sized WHERE coalesce(size, 0) <= :record_bytes
  WINDOW w AS (ORDER BY newest DESC, record_id)),
chosen AS MATERIALIZED (SELECT record_id FROM ranked WHERE place <= :most_records AND coalesce(so_far, 0) <= :table_bytes)
SELECT c.record_id, c.id, c.op, c.data, c.field_meta, (extract(epoch FROM c.created_at) * 1000000)::bigint AS created_us,
       (SELECT count(*) FROM sized) - (SELECT count(*) FROM chosen) AS left_out
  FROM public.sync_changes AS c JOIN chosen USING (record_id)
 WHERE c.user_id = :user AND c.app_id = :app AND c.table_name = :table AND c.created_at <= :until
 ORDER BY c.record_id, c.created_at, c.id

-- logged_iterations --
-- The last versions of the array that the log has seen for a mission, oldest first; each may be 256 KiB.
SELECT * FROM (
  SELECT data -> 'iterations' AS iterations, client_id = 'mana-ai-runner' AS is_ours, created_at, id FROM public.sync_changes
   WHERE user_id = $1 AND app_id = 'ai' AND table_name = 'aiMissions' AND record_id = $2 AND data ? 'iterations'
   ORDER BY created_at DESC, id DESC LIMIT 50) AS newest
 ORDER BY created_at, id

-- healable_iterations --
SELECT iteration_id FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2 AND iteration_id IS NOT NULL AND healed_at IS NULL

-- claim --
-- This and what follows presents the capability itself: one statement, which is its own transaction.
SELECT * FROM mana_ai.claim(:capability, :claim, :mission, :due_at, :lease_ms, :holder, :pinned::jsonb, :mission_version,
                            :agent_version, :time_zone, :inputs::jsonb)

-- renew --
SELECT * FROM mana_ai.renew(:capability, :runs, :attempts, :lease_ms)

-- begin_call --
SELECT * FROM mana_ai.begin_call(:capability, :run, :attempt, :round, :request_hash, :tokens, :deadline_ms, :micros)

-- room_for_call --
SELECT * FROM mana_ai.room_for_call(:capability, :run, :attempt, :tokens, :micros)

-- end_call --
SELECT * FROM mana_ai.end_call(:capability, :call, :attempt, :request_hash, :answer, :tokens, :micros, :answers)

-- commit_run --
SELECT * FROM mana_ai.commit_run(:capability, :run, :attempt, :call, :note, :basis, :state, :data, :floor, :actor, :next_run_at,
                                 :iteration, :steps, :reason)

-- withdraw_run --
SELECT * FROM mana_ai.withdraw_run(:capability, :run, :attempt, :call, :note, :reason, :look_s)

-- skip_run --
SELECT * FROM mana_ai.skip_run(:capability, :run, :attempt, :call, :note, :reason, :look_s)

-- wait_run --
SELECT * FROM mana_ai.wait_run(:capability, :run, :attempt, :call, :note, :reason, :wait_s, :waiting_for, :failed)

-- wait_for_room --
SELECT * FROM mana_ai.wait_for_room(:capability, :run, :attempt, :call, :note, :reason, :tokens, :micros)

-- heal_mission --
SELECT mana_ai.heal_mission(:mission, :version, :iterations::jsonb, :stamp, :actor::jsonb, :restored)

-- keys_capability --
SELECT mana_ai.keys_capability(:capability, :run, :attempt) AS capability

-- audit_outcome --
SELECT mana_ai.audit_outcome(:capability, :release, :iteration, :tables, :record_ids, :statuses, :reasons)

-- sealed_copies --
SELECT table_name, record_id, data, source, (extract(epoch FROM written_at) * 1000000)::bigint AS written_us
  FROM mana_ai.sealed_copies
 WHERE user_id = $1 AND mission_id = $2 AND (table_name, record_id) IN (SELECT * FROM unnest($3::text[], $4::text[]))

-- owner_key --
-- A row always: without a capability it says so, and no key then does not pass for none registered.
SELECT mana_ai.capability_user() AS seen_as, k.key_id, k.public_key
  FROM (VALUES ($1::text)) AS asked (user_id) LEFT JOIN mana_ai.owner_keys AS k ON k.user_id = asked.user_id

-- request_copies --
SELECT mana_ai.request_copies(:capability, :run, :attempt) AS told

-- load_memory --
SELECT * FROM mana_ai.load_memory(:capability, :missions, :mission_fields, :agent_fields)
