-- What a person may see of their own, as the role mana_gateway in that person's place: row security and the statement's own
-- filter both hold to the one named with act_as.

-- has_mission --
SELECT EXISTS (SELECT FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2 AND complete AND NOT hidden)

-- put_copies --
SELECT mana_ai.put_sealed_copies($1, $2, $3::jsonb)

-- owner_key --
SELECT key_id, public_key, created_at FROM mana_ai.owner_keys WHERE user_id = $1

-- put_owner_key --
SELECT mana_ai.put_owner_key($1, $2, $3, $4, $5)

-- remove_owner_key --
SELECT mana_ai.remove_owner_key($1, $2, $3)

-- owner_key_changes --
SELECT key_id, action, ip_address, user_agent, at FROM mana_ai.owner_key_changes
 WHERE user_id = $1 ORDER BY at DESC, change_id LIMIT $2

-- budgets --
-- The agents of a person, those that only a mission names too, by id; what of the installation's limit is left is nobody's
-- business, so only whether it is used up is told.
WITH named AS (
  SELECT agent_id FROM mana_ai.agent_snapshots WHERE user_id = $1 AND NOT hidden
  UNION SELECT agent_id FROM mana_ai.mission_snapshots WHERE user_id = $1 AND NOT hidden),
page AS (
  SELECT agent_id FROM named WHERE ($2::text IS NULL OR agent_id > $2) AND ($4::text IS NULL OR agent_id = $4) ORDER BY agent_id LIMIT $3)
SELECT p.agent_id, b.scope, b.source, b.cap, b.used, b.held, b.micros_cap, b.micros_used, b.micros_held,
       CASE WHEN b.cap IS NOT NULL THEN mana_ai.room_at('agent', $1, p.agent_id, clock_timestamp() - interval '24 hours', 'tokens',
            greatest(1, b.used - b.cap + 1))
            WHEN b.micros_cap IS NOT NULL THEN mana_ai.room_at('agent', $1, p.agent_id, clock_timestamp() - interval '24 hours', 'money',
            greatest(1, b.micros_used - b.micros_cap + 1)) END AS back_at,
       f.scope AS full_scope, f.unit AS full_unit, f.back_at AS full_back_at
  FROM page AS p CROSS JOIN LATERAL mana_ai.budgets_of($1, p.agent_id, ARRAY['agent']) AS b
  LEFT JOIN LATERAL mana_ai.used_up($1, p.agent_id, ARRAY['agent', 'user', 'installation']) AS f ON true
 ORDER BY p.agent_id

-- whole_budget --
-- All agents of the person together; no row without such a limit.
SELECT b.scope, b.source, b.cap, b.used, b.held, b.micros_cap, b.micros_used, b.micros_held,
       CASE WHEN b.cap IS NOT NULL THEN mana_ai.room_at('user', $1, '', clock_timestamp() - interval '24 hours', 'tokens',
            greatest(1, b.used - b.cap + 1))
            WHEN b.micros_cap IS NOT NULL THEN mana_ai.room_at('user', $1, '', clock_timestamp() - interval '24 hours', 'money',
            greatest(1, b.micros_used - b.micros_cap + 1)) END AS back_at
  FROM mana_ai.budgets_of($1, '', ARRAY['user']) AS b

-- missions --
-- What was decided about each mission, the run of its latest slot and the one that is not over: a look into an index each. Of the grant everything
-- but its record ids, which are counted; a list that is none stays, and so does a text that is too long to be a grant's, as `true`.
SELECT s.mission_id, s.agent_id, s.state, s.next_run_at, s.wake_at, s.decision, s.reason, s.decided_at,
       CASE WHEN octet_length(g.bare::text) > 16384 THEN 'true' ELSE g.bare END AS "grant", g.records, clock_timestamp() AS now,
       r.run_id, r.state AS run_state, r.due_at AS run_due_at, r.closed_at AS run_ended_at, r.reason AS run_reason, r.iteration_id,
       l.run_id AS live_id, l.state AS live_state, l.due_at AS live_due_at, l.attempt AS live_attempt, l.reason AS live_reason,
       l.waiting_for, l.not_before
  FROM mana_ai.mission_snapshots AS s
 CROSS JOIN LATERAL (SELECT s.record #> '{grant,derivation,recordIds}' AS ids) AS listed
 CROSS JOIN LATERAL (SELECT jsonb_typeof(ids) = 'array' AND NOT jsonb_path_exists(ids, '$[*] ? (@.type() != "string")') AS counts) AS c
 CROSS JOIN LATERAL (SELECT CASE WHEN counts THEN jsonb_set(s.record -> 'grant', '{derivation,recordIds}', '[]')
                                 ELSE s.record -> 'grant' END AS bare,
                            CASE WHEN counts THEN jsonb_array_length(ids) END AS records) AS g
  LEFT JOIN LATERAL (SELECT * FROM mana_ai.runs AS n WHERE n.user_id = $1 AND n.mission_id = s.mission_id
                      ORDER BY n.due_at DESC LIMIT 1) AS r ON true
  LEFT JOIN mana_ai.runs AS l ON l.user_id = $1 AND l.mission_id = s.mission_id AND l.state IN ('open', 'waiting')
 WHERE s.user_id = $1 AND NOT s.hidden AND ($2::text IS NULL OR s.mission_id = $2) AND ($3::text IS NULL OR s.mission_id > $3)
 ORDER BY s.mission_id LIMIT $4

-- trail --
-- Outcomes, which agents write, and every release they wrote none for: what left without a word must be seen too. Both halves
-- page by (ts, key) in index order; the key is text so that one cursor fits both. A release without a word counts for each record
-- that its key opens. How far the text travelled is what the calls of the run say.
WITH page AS (
  (SELECT lpad(d.id::text, 20, '0') COLLATE "C" AS key, d.id::text AS id, d.mission_id, d.iteration_id, d.table_name, d.record_id,
          d.status, d.reason, d.ts, d.run_id, d.attempt, d.release_id
     FROM mana_ai.decrypt_audit AS d
    WHERE d.user_id = :user AND (:mission::text IS NULL OR d.mission_id = :mission)
      AND (:table::text IS NULL OR d.table_name = :table AND d.record_id = :record::text)
      AND (:statuses::text[] IS NULL OR d.status = ANY (:statuses))
      AND (:agent::text IS NULL OR EXISTS (SELECT FROM mana_ai.key_releases AS k
                                            WHERE k.user_id = :user AND k.release_id = d.release_id AND k.agent_id = :agent))
      AND (:since::timestamptz IS NULL OR d.ts >= :since) AND (:until::timestamptz IS NULL OR d.ts < :until)
      AND (:before_at::timestamptz IS NULL
           OR d.ts <= :before_at AND (d.ts, lpad(d.id::text, 20, '0') COLLATE "C") < (:before_at, :before_key::text))
    ORDER BY d.ts DESC, key DESC LIMIT :limit)
  UNION ALL
  (SELECT k.release_id::text COLLATE "C", k.release_id::text, k.mission_id, NULL, '', '', k.outcome,
          CASE k.outcome WHEN 'released' THEN 'no-outcome-recorded' ELSE k.reason END, k.ts, k.run_id, k.attempt, k.release_id
     FROM mana_ai.key_releases AS k
    WHERE k.user_id = :user AND (:mission::text IS NULL OR k.mission_id = :mission)
      AND (:table::text IS NULL OR k.record_ids @> ARRAY[:table || ':' || :record::text])
      AND (:statuses::text[] IS NULL OR k.outcome = ANY (:statuses))
      AND (:agent::text IS NULL OR k.agent_id = :agent)
      AND (:since::timestamptz IS NULL OR k.ts >= :since) AND (:until::timestamptz IS NULL OR k.ts < :until)
      AND (:before_at::timestamptz IS NULL
           OR k.ts <= :before_at AND (k.ts, k.release_id::text COLLATE "C") < (:before_at, :before_key::text))
      AND NOT EXISTS (SELECT FROM mana_ai.decrypt_audit AS d WHERE d.user_id = :user AND d.release_id = k.release_id)
    ORDER BY k.ts DESC, k.release_id::text COLLATE "C" DESC LIMIT :limit)
  ORDER BY ts DESC, key DESC LIMIT :limit)
SELECT page.*, k.agent_id, k.ts AS released_at, coalesce(k.record_ids, '{}') AS granted, k.grant_version, k.expires_at AS grant_ends_at,
       ARRAY(SELECT DISTINCT n.value ->> 'exposure' FROM mana_ai.runs AS r, jsonb_each(r.answers) AS n
              WHERE r.user_id = :user AND r.run_id = page.run_id AND jsonb_typeof(r.answers) = 'object'
                AND n.value ->> 'exposure' IS NOT NULL) AS exposures
  FROM page LEFT JOIN mana_ai.key_releases AS k ON k.release_id = page.release_id AND k.user_id = :user
 ORDER BY page.ts DESC, page.key DESC
