CREATE OR REPLACE FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.* FROM mana_ai.change_feed AS f JOIN mana_ai.router_log AS c ON c.id = f.change_id
   WHERE f.record_id = p_record AND f.table_name = p_table AND (f.user_id = p_user OR mana_ai.is_shared(f.space_id))
     AND p_user = CASE WHEN c.op = 'insert' OR NOT mana_ai.is_shared(c.space_id) THEN c.user_id
                       ELSE mana_ai.owner_of(c.user_id, p_table, p_record, c.space_id) END;
END;

COMMENT ON FUNCTION mana_ai.unfolded_rows IS
'The rows of one user''s record that wait to be folded, whoever wrote them: in a shared space members write into it too.
It is STABLE, so it reads with the snapshot of the statement that calls it.';
ALTER FUNCTION mana_ai.unfolded_rows OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.unfolded_rows TO mana_owner;
