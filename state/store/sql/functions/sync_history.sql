CREATE OR REPLACE FUNCTION mana_ai.sync_history(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb, p_most int, OUT table_name text,
  OUT record_id text, OUT id uuid, OUT created_us bigint, OUT op text, OUT data text, OUT field_meta text, OUT author text, OUT client text)
RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  SELECT a.in_table, a.record, h.id, (extract(epoch FROM h.created_at) * 1000000)::bigint, h.op,
         CASE jsonb_typeof(h.data) WHEN 'object' THEN coalesce((
           SELECT jsonb_object_agg(e.key, CASE WHEN e.key IN ('deletedAt', 'updatedAt', 'createdAt') THEN e.value END)
             FROM jsonb_each(h.data) AS e), '{}')::text ELSE h.data::text END,
         h.field_meta::text, h.user_id, h.client_id
    FROM (SELECT DISTINCT r.change ->> 'table' AS in_table, r.change ->> 'id' AS record FROM jsonb_array_elements(p_rows) AS r (change)) AS a
   -- Nobody loses to themselves.
   CROSS JOIN LATERAL (
     SELECT FROM mana_ai.log_rows AS c
      WHERE c.app_id = p_app AND c.table_name = a.in_table AND c.record_id = a.record AND isfinite(c.created_at)
        AND (c.user_id = p_user AND c.client_id <> p_client
             OR c.user_id <> p_user AND mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
      LIMIT 1) AS others
   CROSS JOIN LATERAL (
     SELECT c.* FROM mana_ai.log_rows AS c
      WHERE c.app_id = p_app AND c.table_name = a.in_table AND c.record_id = a.record AND isfinite(c.created_at)
        AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
      LIMIT p_most) AS h
   ORDER BY a.in_table, a.record, h.created_at, h.id;
END $$;

COMMENT ON FUNCTION mana_ai.sync_history IS
'All rows of the records that a push is about and that others wrote as well, as far as that person may read them, for the gateway:
what wins a field, and not what it says. Values are left out but for times that the merge looks at. p_most bounds the rows of a record.';
ALTER FUNCTION mana_ai.sync_history OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_history TO mana_gateway;
