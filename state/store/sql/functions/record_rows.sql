CREATE OR REPLACE FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT * FROM mana_ai.router_log AS own
   WHERE own.app_id = 'ai' AND own.table_name = p_table AND own.record_id = p_record AND own.user_id = p_user
     AND (own.op = 'insert' OR NOT mana_ai.is_shared(own.space_id)
          OR mana_ai.owner_of(own.user_id, p_table, p_record, own.space_id) = p_user)
  UNION ALL
  SELECT * FROM mana_ai.router_log AS members
   WHERE members.app_id = 'ai' AND members.table_name = p_table AND members.record_id = p_record AND members.user_id <> p_user
     AND members.op <> 'insert' AND mana_ai.is_shared(members.space_id)
     AND members.space_id IN (SELECT space_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                                 AND record_id = p_record AND user_id = p_user AND op = 'insert')
     AND mana_ai.owner_of(members.user_id, p_table, p_record, members.space_id) = p_user;
END;

COMMENT ON FUNCTION mana_ai.record_rows IS
'Every row that folds into one user''s record: the user''s own, and in a shared space those of other members.';
ALTER FUNCTION mana_ai.record_rows OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.record_rows TO mana_owner, mana_compactor;
