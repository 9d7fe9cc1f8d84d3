CREATE OR REPLACE FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[])
RETURNS TABLE (owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb,
               created_at timestamptz, space_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM mana_ai.change_feed AS f
   USING unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
   WHERE f.record_id = k.record_id AND f.table_name = k.table_name AND f.user_id = k.user_id;
  RETURN QUERY
    SELECT k.user_id, c.id, c.table_name, c.record_id, c.op, c.data, c.field_meta, c.created_at, c.space_id
      FROM unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
     CROSS JOIN LATERAL mana_ai.record_rows(k.user_id, k.table_name, k.record_id) AS c
     ORDER BY c.created_at, c.id;
END $$;

COMMENT ON FUNCTION mana_ai.replay_records IS
'Reads records whole, in fold order, after dropping what the feed still holds of them. A row that commits between the
two statements is read here and stays in the feed; it comes again as a late row, and the record is replayed once more.';
ALTER FUNCTION mana_ai.replay_records OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.replay_records TO mana_supervisor;
