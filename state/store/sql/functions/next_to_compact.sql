CREATE OR REPLACE FUNCTION mana_ai.next_to_compact(p_user text, p_app text, p_table text, p_keep interval)
RETURNS TABLE (user_id text, app_id text, table_name text, records text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT p.user_id, p.app_id, p.table_name, ARRAY(
    SELECT c.record_id FROM mana_ai.compactor_log AS c
     WHERE c.user_id = p.user_id AND c.app_id = p.app_id AND c.table_name = p.table_name
       AND c.created_at < clock_timestamp() - greatest(p_keep, interval '1 day')
     GROUP BY c.record_id HAVING count(*) FILTER (WHERE c.op = 'update') > 1 ORDER BY c.record_id)
    FROM (SELECT l.user_id, l.app_id, l.table_name FROM mana_ai.compactor_log AS l
           WHERE (l.user_id, l.app_id, l.table_name) > (p_user, p_app, p_table)
           ORDER BY l.user_id, l.app_id, l.table_name LIMIT 1) AS p;
END;

COMMENT ON FUNCTION mana_ai.next_to_compact IS
'The next table of a person''s after one, with the ids of its records that have several updates older than p_keep.';
ALTER FUNCTION mana_ai.next_to_compact OWNER TO mana_compactor;
GRANT EXECUTE ON FUNCTION mana_ai.next_to_compact TO mana_janitor;
