CREATE OR REPLACE FUNCTION mana_ai.own_table(p_user text, p_app text, p_table text, p_most int)
RETURNS TABLE (record_id text, id uuid, op text, data text, field_meta text, created_us bigint, left_out bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
    WITH sized AS MATERIALIZED (
      SELECT c.record_id, max(c.created_at) AS newest, sum(length(c.data::text) + 200) AS size FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND length(c.record_id) <= 512 GROUP BY c.record_id),
    ranked AS MATERIALIZED (
      SELECT s.record_id, row_number() OVER w AS place, sum(s.size) OVER w AS so_far FROM sized AS s
      WINDOW w AS (ORDER BY s.newest DESC, s.record_id)),
    chosen AS MATERIALIZED (SELECT r.record_id FROM ranked AS r WHERE r.place <= p_most AND coalesce(r.so_far, 0) <= 16777216)
    SELECT c.record_id, c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint,
           (SELECT count(*) FROM sized) - (SELECT count(*) FROM chosen)
      FROM mana_ai.log_rows AS c JOIN chosen USING (record_id)
     WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table
     ORDER BY c.record_id, c.created_at, c.id;
END $$;

COMMENT ON FUNCTION mana_ai.own_table IS
'The rows of a person''s own records of one table, for what carrying out a proposal has to look through; for the gateway. The
newest records, whole ones only, up to 16 MB; left_out counts the others.';
ALTER FUNCTION mana_ai.own_table OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_table TO mana_gateway;
