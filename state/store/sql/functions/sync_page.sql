CREATE OR REPLACE FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamptz,
  p_slot int, p_until timestamptz, p_rows int, p_bytes int, OUT id uuid, OUT author text, OUT client text, OUT table_name text,
  OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version int, OUT actor text,
  OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot int, OUT is_more boolean) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
  line record;
  last_at timestamptz;
  taken int := 0;
  bytes bigint := 0::bigint;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  is_more := false;
  FOR line IN
    SELECT k.at, mana_ai.sync_slot(k.id) AS slot, k.* FROM (
      (SELECT c.created_at AS at, c.* FROM mana_ai.log_rows AS c
        WHERE p_table IS NULL AND c.user_id = p_user AND c.app_id = p_app AND c.client_id <> p_client
          AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
        ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES)
      UNION ALL
      (SELECT c.created_at, c.* FROM mana_ai.log_rows AS c
        WHERE c.table_name = p_table AND c.user_id = p_user AND c.app_id = p_app AND c.client_id <> p_client
          AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
        ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES)
      UNION ALL
      SELECT s.* FROM unnest(p_spaces) AS one (space) CROSS JOIN LATERAL (
        SELECT c.created_at, c.* FROM mana_ai.log_rows AS c
         WHERE c.space_id = one.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = p_app
           AND c.user_id <> p_user AND (p_table IS NULL OR c.table_name = p_table)
           AND c.created_at >= p_since AND c.created_at <= p_until AND (c.created_at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
         ORDER BY c.created_at FETCH FIRST (p_rows + 1) ROWS WITH TIES) AS s
      UNION ALL
      -- What turned up behind the device's position; what is before it comes by the parts above, now or on a later page.
      (SELECT l.position, c.* FROM mana_ai.sync_late AS l JOIN mana_ai.log_rows AS c ON c.id = l.change_id
        WHERE l.feed = ANY (feeds) AND l.position >= p_since AND l.position <= p_until
          AND (l.position > p_since OR mana_ai.sync_slot(c.id) > p_slot)
          AND c.app_id = p_app AND (p_table IS NULL OR c.table_name = p_table) AND isfinite(c.created_at)
          AND (c.user_id = p_user AND c.client_id <> p_client
               OR c.user_id <> p_user AND mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
          AND (c.created_at < p_since OR c.created_at = p_since AND mana_ai.sync_slot(c.id) <= p_slot OR c.created_at > p_until)
        ORDER BY l.position FETCH FIRST (p_rows + 1) ROWS WITH TIES)) AS k
    ORDER BY k.at, k.id
  LOOP
    CONTINUE WHEN line.id = sync_page.id AND line.at = last_at;  -- by the author's feed and by the space's
    IF (taken >= p_rows OR bytes >= p_bytes) AND (line.at, line.slot) IS DISTINCT FROM (last_at, sync_page.slot) THEN
      is_more := true;
      RETURN NEXT;
      RETURN;
    END IF;
    last_at := line.at;
    id := line.id;
    author := line.user_id;
    client := line.client_id;
    table_name := line.table_name;
    record_id := line.record_id;
    op := line.op;
    data := line.data::text;
    field_meta := line.field_meta::text;
    created_us := (extract(epoch FROM line.created_at) * 1000000)::bigint;
    schema_version := line.schema_version;
    actor := line.actor::text;
    origin := line.origin;
    space_id := line.space_id;
    at_us := (extract(epoch FROM line.at) * 1000000)::bigint;
    slot := line.slot;
    taken := taken + 1;
    bytes := bytes + 200 + coalesce(length(data), 0) + coalesce(length(field_meta), 0) + coalesce(length(actor), 0);
    RETURN NEXT;
  END LOOP;
END $$;

COMMENT ON FUNCTION mana_ai.sync_page IS
'Rows of an app, or of one table, that a person may read, after a position up to a published one (sync_publish), in the order of
their positions; not those that this client of theirs wrote. A page ends after so many rows or bytes, never between rows of
one position; then one row more says is_more.';
ALTER FUNCTION mana_ai.sync_page OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_page TO mana_gateway;
