CREATE OR REPLACE FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN EXISTS (SELECT FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table AND record_id = p_record
                            AND user_id = p_user AND op = 'insert') THEN p_user
            ELSE coalesce((SELECT user_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                              AND record_id = p_record AND space_id = p_space AND op = 'insert'
                            ORDER BY created_at, id LIMIT 1), p_user) END;

COMMENT ON FUNCTION mana_ai.owner_of IS
'Whose record a row folds into: its author''s if the author inserted the record, else that of whoever inserted it first
in the same space.';
ALTER FUNCTION mana_ai.owner_of OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.owner_of TO mana_owner, mana_compactor;
