-- Requests for sealed copies, as the role mana_gateway in the place of the person whose mission asks.

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
