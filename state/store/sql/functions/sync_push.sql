CREATE OR REPLACE FUNCTION mana_ai.sync_push(p_user text, p_spaces text[], p_app text, p_client text, p_rows jsonb,
  OUT n int, OUT status text, OUT created_us bigint) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  base timestamptz;
BEGIN
  IF (p_user <> '' AND p_app <> ''
      AND NOT EXISTS (SELECT FROM jsonb_array_elements(p_rows) AS r WHERE (r ->> 'table' <> '' AND r ->> 'id' <> ''
            AND (r ->> 'space' IS NULL OR r ->> 'space' = '_personal:' || p_user
                 OR mana_ai.is_shared(r ->> 'space') AND r ->> 'space' = ANY (p_spaces))) IS NOT TRUE)) IS NOT TRUE THEN
    RAISE EXCEPTION 'sync_push: not changes of this person' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true);
  -- Not the start of the transaction: within a push no two rows share a time.
  base := clock_timestamp();
  RETURN QUERY
  WITH given AS (
    SELECT r.n::int AS n, (r.change ->> 'changeId')::uuid AS id, r.change FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS r (change, n)),
  written AS (
    INSERT INTO mana_ai.log_rows AS c (id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at,
                                       schema_version, actor, origin, space_id)
    SELECT g.id, p_app, g.change ->> 'table', g.change ->> 'id', p_user, g.change ->> 'op', g.change -> 'data', g.change -> 'meta',
           p_client, base + g.n * interval '1 microsecond', (g.change ->> 'schema')::int,
           CASE WHEN jsonb_typeof(g.change -> 'actor') <> 'null' THEN g.change -> 'actor' END, g.change ->> 'origin', g.change ->> 'space'
      FROM given AS g ORDER BY g.id  -- two pushes of the same changes wait for each other, and never in a circle
    ON CONFLICT (id) DO NOTHING RETURNING c.id, c.created_at)
  SELECT g.n, CASE WHEN w.id IS NULL THEN 'there' ELSE 'written' END, (extract(epoch FROM w.created_at) * 1000000)::bigint
    FROM given AS g LEFT JOIN written AS w ON w.id = g.id ORDER BY g.n;
END $$;

COMMENT ON FUNCTION mana_ai.sync_push IS
'Writes a client''s changes into the log, for the gateway: each once, by the id that the client gave it. A shared space has to be
one of theirs. A change whose id is there already is not written; sync_there says whether it is the same.';
ALTER FUNCTION mana_ai.sync_push OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_push TO mana_gateway;
