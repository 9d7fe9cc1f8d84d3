CREATE OR REPLACE FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text)
RETURNS TABLE (id uuid, op text, data text, field_meta text, created_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.copy_requests AS q WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken
                    AND q.due_at > clock_timestamp())
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                       AND s.record -> 'inputs' @> jsonb_build_array(jsonb_build_object('table', p_table, 'id', p_record))
                       AND s.record #> '{grant,derivation,recordIds}' ? (p_table || ':' || p_record)) THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 2097152 THEN
    RAISE EXCEPTION 'copy_source: over 2 MB of rows' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  RETURN QUERY SELECT c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM mana_ai.log_rows AS c
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record ORDER BY c.created_at, c.id;
END $$;

COMMENT ON FUNCTION mana_ai.copy_source IS
'The rows of one record, for whoever took the request for copies. Only a record that is an input of that mission and
that its grant lists; at most 2 MB of rows.';
ALTER FUNCTION mana_ai.copy_source OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.copy_source TO mana_gateway;
