CREATE OR REPLACE FUNCTION mana_ai.own_ids(p_user text, p_app text, p_table text, p_limit int) RETURNS TABLE (record_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY SELECT c.record_id FROM mana_ai.log_rows AS c
    WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.op = 'insert'
    GROUP BY c.record_id ORDER BY min(c.created_at) DESC, c.record_id LIMIT p_limit;
END $$;

COMMENT ON FUNCTION mana_ai.own_ids IS
'Ids of the records that a person made in a table, the newest first, deleted ones among them; for the gateway.';
ALTER FUNCTION mana_ai.own_ids OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_ids TO mana_gateway;
