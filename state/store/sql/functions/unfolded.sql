CREATE OR REPLACE FUNCTION mana_ai.unfolded(p_user text, p_table text, p_record text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                      'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
    FROM mana_ai.unfolded_rows(p_user, p_table, p_record) AS c;
END;

COMMENT ON FUNCTION mana_ai.unfolded IS
'The rows of one record that wait to be folded, in fold order; null where there are none. Their JSON is text, so that one
that cannot be read is skipped alone. It is STABLE, so it reads with the snapshot of the statement that calls it.';
ALTER FUNCTION mana_ai.unfolded OWNER TO mana_owner;
