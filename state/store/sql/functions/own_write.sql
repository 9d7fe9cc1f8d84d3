CREATE OR REPLACE FUNCTION mana_ai.own_write(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_op text, p_data text,
  p_meta text, p_client text, p_actor text, p_origin text, p_space text, OUT id uuid, OUT created_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  actor jsonb := p_actor::jsonb;
  meta jsonb := p_meta::jsonb;
BEGIN
  IF (p_user <> '' AND p_app <> '' AND p_table <> '' AND p_record <> '' AND octet_length(p_record) <= 512
      AND octet_length(p_data) <= 4194304
      AND (p_origin = 'user' AND actor ->> 'kind' = 'user' AND actor ->> 'principalId' = p_user
           OR p_origin = 'agent' AND actor ->> 'kind' = 'ai' AND actor ->> 'principalId' <> '')
      AND NOT EXISTS (SELECT FROM jsonb_each(meta) AS stamp WHERE jsonb_typeof(stamp.value) <> 'string')
      AND (p_op = 'update' OR meta = '{}' OR p_op = 'insert' AND p_origin = 'agent')
      AND (p_space IS NULL OR p_space = '_personal:' || p_user OR NOT mana_ai.is_shared(p_space) AND p_op <> 'insert'
           OR p_space = ANY (p_spaces))) IS NOT TRUE THEN
    RAISE EXCEPTION 'own_write: not a change of this person' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  -- Not the start of the transaction: what it writes twice is folded in the order of writing.
  INSERT INTO mana_ai.log_rows AS c (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version,
                                     actor, origin, space_id, created_at)
  VALUES (p_app, p_table, p_record, p_user, p_op, p_data::jsonb, meta, p_client, 1, actor, p_origin, p_space, clock_timestamp())
  RETURNING c.id, (extract(epoch FROM c.created_at) * 1000000)::bigint INTO own_write.id, own_write.created_us;
END $$;

COMMENT ON FUNCTION mana_ai.own_write IS
'Writes one row of a person''s into the log, as the sync service would; for the gateway. It is signed by that person, or by
an agent that carries out what they approved. Stamps are plain strings: one object among them makes every pull of the app
fail. A shared space has to be one of theirs.';
ALTER FUNCTION mana_ai.own_write OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_write TO mana_gateway;
