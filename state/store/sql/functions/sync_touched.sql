CREATE OR REPLACE FUNCTION mana_ai.sync_touched(p_user text, p_spaces text[], p_since timestamptz, p_until timestamptz,
  OUT app_id text, OUT table_name text, OUT client text) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  -- By the index of each app: a person's rows are found by app and time.
  WITH RECURSIVE own_apps AS (
    (SELECT c.app_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user ORDER BY c.app_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.app_id FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id > a.app_id ORDER BY c.app_id LIMIT 1)
      FROM own_apps AS a WHERE a.app_id IS NOT NULL),
  shared_apps AS (
    (SELECT s.space, c.app_id FROM unnest(p_spaces) AS s (space) CROSS JOIN LATERAL (
       SELECT c.app_id FROM mana_ai.log_rows AS c
        WHERE c.space_id = s.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:')
        ORDER BY c.app_id LIMIT 1) AS c)
    UNION ALL
    SELECT a.space, (SELECT c.app_id FROM mana_ai.log_rows AS c
                      WHERE c.space_id = a.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:')
                        AND c.app_id > a.app_id ORDER BY c.app_id LIMIT 1)
      FROM shared_apps AS a WHERE a.app_id IS NOT NULL)
  SELECT c.app_id, c.table_name, c.client_id FROM own_apps AS a JOIN mana_ai.log_rows AS c
      ON c.user_id = p_user AND c.app_id = a.app_id AND c.created_at > p_since AND c.created_at <= p_until
  UNION
  SELECT c.app_id, c.table_name, NULL FROM shared_apps AS a JOIN mana_ai.log_rows AS c
      ON c.space_id = a.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = a.app_id
     AND c.user_id <> p_user AND c.created_at > p_since AND c.created_at <= p_until
  UNION
  SELECT c.app_id, c.table_name, CASE WHEN c.user_id = p_user THEN c.client_id END
    FROM mana_ai.sync_late AS l JOIN mana_ai.log_rows AS c ON c.id = l.change_id
   WHERE l.feed = ANY (mana_ai.sync_feeds_of(p_user, p_spaces)) AND l.position > p_since AND l.position <= p_until
     AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces));
END $$;

COMMENT ON FUNCTION mana_ai.sync_touched IS
'In which tables a person has something new between two published positions, and which of their clients wrote it (null: somebody
else), for notices by the gateway.';
ALTER FUNCTION mana_ai.sync_touched OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_touched TO mana_gateway;
