CREATE OR REPLACE FUNCTION mana_ai.own_is_sealed(p_user text, p_app text, p_table text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN EXISTS (SELECT FROM mana_ai.owner_keys AS k WHERE k.user_id = p_user)
      OR EXISTS (SELECT FROM (SELECT c.data FROM mana_ai.log_rows AS c WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table
                                 AND c.op <> 'delete' ORDER BY c.created_at DESC LIMIT 500) AS latest
                  WHERE jsonb_path_exists(latest.data, '$.* ? (@.type() == "string" && @ starts with "enc:1:")'));
END $$;

COMMENT ON FUNCTION mana_ai.own_is_sealed IS
'Whether a person''s clients seal what they write into a table: they registered a key, or one of its last 500 writes holds a
sealed value. Then nothing of theirs is written there in plain.';
ALTER FUNCTION mana_ai.own_is_sealed OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_is_sealed TO mana_gateway;
