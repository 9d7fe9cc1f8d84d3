CREATE OR REPLACE FUNCTION mana_ai.sync_page(p_user text, p_spaces text[], p_app text, p_table text, p_client text, p_since timestamptz,
  p_slot int, p_until timestamptz, p_rows int, p_bytes int, OUT id uuid, OUT author text, OUT client text, OUT table_name text,
  OUT record_id text, OUT op text, OUT data text, OUT field_meta text, OUT created_us bigint, OUT schema_version int, OUT actor text,
  OUT origin text, OUT space_id text, OUT at_us bigint, OUT slot int, OUT is_more boolean) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  RETURN QUERY
  WITH found AS (
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
      ORDER BY l.position FETCH FIRST (p_rows + 1) ROWS WITH TIES)
    UNION ALL
    -- Older rows of a space that this device's person joined, all at one position.
    SELECT j.at, s.* FROM (
      SELECT o.key AS space, 'epoch'::timestamptz + o.value::bigint * interval '1 microsecond' AS at
        FROM mana_ai.sync_devices AS d CROSS JOIN LATERAL jsonb_each_text(d.joined) AS o
       WHERE d.user_id = p_user AND d.client_id = p_client AND o.key = ANY (p_spaces)) AS j
     CROSS JOIN LATERAL (
      SELECT c.* FROM mana_ai.log_rows AS c
       WHERE c.space_id = j.space AND c.space_id IS NOT NULL AND NOT starts_with(c.space_id, '_personal:') AND c.app_id = p_app
         AND c.user_id <> p_user AND (p_table IS NULL OR c.table_name = p_table) AND isfinite(c.created_at)
         AND (j.at > p_since OR mana_ai.sync_slot(c.id) > p_slot)
         AND (c.created_at < p_since OR c.created_at = p_since AND mana_ai.sync_slot(c.id) <= p_slot OR c.created_at > p_until)
       ORDER BY mana_ai.sync_slot(c.id) FETCH FIRST (p_rows + 1) ROWS WITH TIES) AS s
     WHERE j.at >= p_since AND j.at <= p_until),
  texts AS (
    SELECT f.at, f.id, f.user_id, f.client_id, f.table_name, f.record_id, f.op, f.data::text AS data, f.field_meta::text AS field_meta,
           f.created_at, f.schema_version, f.actor::text AS actor, f.origin, f.space_id
      FROM found AS f),
  once AS (  -- a row of a space comes by its author's feed and by the space's
    SELECT DISTINCT ON (t.at, t.id) t.*, mana_ai.sync_slot(t.id) AS slot,
           200 + coalesce(length(t.data), 0) + coalesce(length(t.field_meta), 0) + coalesce(length(t.actor), 0) AS size
      FROM texts AS t ORDER BY t.at, t.id),
  placed AS (
    SELECT o.*, row_number() OVER w AS place, sum(o.size) OVER w - o.size AS before,
           (lag(o.at) OVER w, lag(o.slot) OVER w) IS DISTINCT FROM (o.at, o.slot) AS is_next
      FROM once AS o WINDOW w AS (ORDER BY o.at, o.id ROWS UNBOUNDED PRECEDING)),
  ended AS (SELECT min(p.place) AS place FROM placed AS p WHERE (p.place > p_rows OR p.before >= p_bytes) AND p.is_next)
  SELECT p.id, p.user_id, p.client_id, p.table_name, p.record_id, p.op, p.data, p.field_meta,
         (extract(epoch FROM p.created_at) * 1000000)::bigint, p.schema_version, p.actor, p.origin, p.space_id,
         (extract(epoch FROM p.at) * 1000000)::bigint, p.slot, e.place IS NOT NULL
    FROM placed AS p CROSS JOIN ended AS e WHERE e.place IS NULL OR p.place < e.place ORDER BY p.place;
END $$;

COMMENT ON FUNCTION mana_ai.sync_page IS
'Rows of an app, or of one table, that a person may read, after a position up to a published one (sync_publish), in the order of
their positions; not those that this client of theirs wrote. A page ends after so many rows or bytes, never between rows of
one position; is_more says that there are later rows. Every plan reads by the same indexes, and a plan made for each call would
take longer than a page without news.';
ALTER FUNCTION mana_ai.sync_page OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_page TO mana_gateway;
