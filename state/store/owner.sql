-- What a person may see of their own, as the role mana_gateway in that person's place: row security and the statement's own
-- filter both hold to the one named with act_as.

-- act_as --
SELECT set_config('app.current_user_id', $1, true)

-- has_mission --
SELECT EXISTS (SELECT FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2 AND complete AND NOT hidden)

-- trail --
SELECT id, mission_id, iteration_id, table_name, record_id, status, reason, ts
  FROM mana_ai.decrypt_audit
 WHERE user_id = $1 AND ($2::text IS NULL OR mission_id = $2) AND ($3::timestamptz IS NULL OR (ts, id) < ($3, $4::bigint))
 ORDER BY ts DESC, id DESC LIMIT $5
