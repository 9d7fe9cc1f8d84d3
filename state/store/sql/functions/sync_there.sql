CREATE OR REPLACE FUNCTION mana_ai.sync_there(p_user text, p_app text, p_rows jsonb, OUT n int, OUT created_us bigint) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  RETURN QUERY
  SELECT r.n::int, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS r (change, n)
    JOIN mana_ai.log_rows AS c ON c.id = (r.change ->> 'changeId')::uuid
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = r.change ->> 'table' AND c.record_id = r.change ->> 'id'
     AND c.op = r.change ->> 'op' AND c.space_id IS NOT DISTINCT FROM r.change ->> 'space'
     AND (c.op = 'delete' OR c.data IS NOT DISTINCT FROM r.change -> 'data');
END $$;

COMMENT ON FUNCTION mana_ai.sync_there IS
'Which of a client''s changes the log has already as the same change of the same person. Stamps may differ: what was too far
ahead of the clock was taken back when it was written.';
ALTER FUNCTION mana_ai.sync_there OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_there TO mana_gateway;
