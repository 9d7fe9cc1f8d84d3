-- What the janitor deletes, by age alone: it sees no other column. Of the log, a function deletes, which decides what may go.

-- prune_releases --
DELETE FROM mana_ai.key_releases WHERE ts < clock_timestamp() - $1 * interval '1 second'
   AND ts <= coalesce((SELECT ts FROM mana_ai.key_releases ORDER BY ts OFFSET $2 LIMIT 1), 'infinity')

-- prune_audit --
DELETE FROM mana_ai.decrypt_audit WHERE ts < clock_timestamp() - $1 * interval '1 second'
   AND ts <= coalesce((SELECT ts FROM mana_ai.decrypt_audit ORDER BY ts OFFSET $2 LIMIT 1), 'infinity')

-- prune_copies --
DELETE FROM mana_ai.sealed_copies WHERE expires_at < clock_timestamp() - $1 * interval '1 second'
   AND expires_at <= coalesce((SELECT expires_at FROM mana_ai.sealed_copies ORDER BY expires_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_key_changes --
DELETE FROM mana_ai.owner_key_changes WHERE at < clock_timestamp() - $1 * interval '1 second'
   AND at <= coalesce((SELECT at FROM mana_ai.owner_key_changes ORDER BY at OFFSET $2 LIMIT 1), 'infinity')

-- prune_openings --
DELETE FROM mana_ai.openings WHERE at < clock_timestamp() - $1 * interval '1 second'
   AND at <= coalesce((SELECT at FROM mana_ai.openings ORDER BY at OFFSET $2 LIMIT 1), 'infinity')

-- prune_copy_requests --
DELETE FROM mana_ai.copy_requests WHERE asked_at < clock_timestamp() - $1 * interval '1 second'
   AND asked_at <= coalesce((SELECT asked_at FROM mana_ai.copy_requests ORDER BY asked_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_usage --
-- By age alone, the oldest first: the janitor sees no column but the time. Rows of one instant go together.
DELETE FROM mana_ai.token_usage WHERE ts < clock_timestamp() - $1 * interval '1 second'
   AND ts <= coalesce((SELECT ts FROM mana_ai.token_usage ORDER BY ts OFFSET $2 LIMIT 1), 'infinity')

-- prune_decisions --
DELETE FROM mana_ai.decisions WHERE at < clock_timestamp() - $1 * interval '1 second'
   AND at <= coalesce((SELECT at FROM mana_ai.decisions ORDER BY at OFFSET $2 LIMIT 1), 'infinity')

-- prune_runs --
-- Live runs have no closed_at.
DELETE FROM mana_ai.runs WHERE closed_at < clock_timestamp() - $1 * interval '1 second'
   AND closed_at <= coalesce((SELECT closed_at FROM mana_ai.runs WHERE closed_at IS NOT NULL ORDER BY closed_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_requests --
DELETE FROM mana_ai.run_requests WHERE closed_at < clock_timestamp() - $1 * interval '1 second'
   AND closed_at <= coalesce((SELECT closed_at FROM mana_ai.run_requests WHERE closed_at IS NOT NULL ORDER BY closed_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_answers --
DELETE FROM mana_ai.own_answers WHERE at < clock_timestamp() - $1 * interval '1 second'
   AND at <= coalesce((SELECT at FROM mana_ai.own_answers ORDER BY at OFFSET $2 LIMIT 1), 'infinity')

-- prune_proposals --
-- What nobody answered has no time of decision, and expires first.
DELETE FROM mana_ai.proposals WHERE decided_at < clock_timestamp() - $1 * interval '1 second'
   AND decided_at <= coalesce((SELECT decided_at FROM mana_ai.proposals WHERE decided_at IS NOT NULL ORDER BY decided_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_links --
DELETE FROM mana_ai.sign_in_links WHERE expires_at < clock_timestamp() - $1 * interval '1 second'
   AND expires_at <= coalesce((SELECT expires_at FROM mana_ai.sign_in_links ORDER BY expires_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_visitors --
DELETE FROM mana_ai.visitors WHERE expires_at < clock_timestamp() - $1 * interval '1 second'
   AND expires_at <= coalesce((SELECT expires_at FROM mana_ai.visitors ORDER BY expires_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_sign_ins --
DELETE FROM mana_ai.sign_ins WHERE expires_at < clock_timestamp() - $1 * interval '1 second'
   AND expires_at <= coalesce((SELECT expires_at FROM mana_ai.sign_ins ORDER BY expires_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_operator_sessions --
DELETE FROM mana_ai.operator_sessions WHERE ends_at < clock_timestamp() - $1 * interval '1 second'
   AND ends_at <= coalesce((SELECT ends_at FROM mana_ai.operator_sessions ORDER BY ends_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_tokens --
DELETE FROM mana_ai.personal_tokens WHERE expires_at < clock_timestamp() - $1 * interval '1 second'
   AND expires_at <= coalesce((SELECT expires_at FROM mana_ai.personal_tokens ORDER BY expires_at OFFSET $2 LIMIT 1), 'infinity')

-- prune_people_trail --
DELETE FROM mana_ai.people_trail WHERE at < clock_timestamp() - $1 * interval '1 second'
   AND at <= coalesce((SELECT at FROM mana_ai.people_trail ORDER BY at OFFSET $2 LIMIT 1), 'infinity')

-- next_to_compact --
SELECT user_id, app_id, table_name, records FROM mana_ai.next_to_compact($1, $2, $3, $4)

-- compact_record --
SELECT outcome, removed, bytes, next_at, next_id
  FROM mana_ai.compact_record(:user, :app, :table, :record, :keep, :after_at, :after_id, :removes)
