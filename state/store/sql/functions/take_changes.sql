CREATE OR REPLACE FUNCTION mana_ai.take_changes(p_lo int, p_hi int, p_floor bigint, p_limit int, p_bytes bigint)
RETURNS TABLE (seq bigint, owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb,
               field_meta jsonb, created_at timestamptz, space_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH head AS MATERIALIZED (
    SELECT f.seq, f.change_id FROM mana_ai.change_feed AS f
     WHERE f.seq > p_floor AND f.bucket >= p_lo AND f.bucket < p_hi ORDER BY f.seq LIMIT p_limit),
  read AS MATERIALIZED (
    SELECT h.seq, c.* FROM head AS h LEFT JOIN mana_ai.router_log AS c ON c.id = h.change_id),
  sized AS (  -- pglz and lz4 reach about 1:100 and 1:250; measuring exactly would decompress what is not taken
    SELECT r.*, sum(coalesce(pg_column_size(r.data), 0)::bigint * CASE WHEN pg_column_compression(r.data) IS NULL THEN 1 ELSE 100 END)
                  OVER (ORDER BY r.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM read AS r),
  owned AS (
    SELECT s.*, CASE WHEN s.op = 'insert' OR NOT mana_ai.is_shared(s.space_id) THEN s.user_id
                     ELSE mana_ai.owner_of(s.user_id, s.table_name, s.record_id, s.space_id) END AS owner_id
      FROM sized AS s WHERE coalesce(s.before, 0) < p_bytes),
  placed AS MATERIALIZED (
    -- Only a shared row is ever handed on, and its owner may have changed since: the others need no hashing.
    SELECT o.*, o.op = 'insert' OR NOT mana_ai.is_shared(o.space_id)
                OR (mana_ai.bucket_of(o.owner_id) >= p_lo AND mana_ai.bucket_of(o.owner_id) < p_hi) AS is_here
      FROM owned AS o),
  taken AS (
    DELETE FROM mana_ai.change_feed AS f USING placed AS o WHERE f.seq = o.seq RETURNING f.seq),
  handed_on AS (
    INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
    SELECT mana_ai.bucket_of(o.owner_id), o.id, o.user_id, o.table_name, o.record_id FROM placed AS o WHERE NOT o.is_here)
  SELECT o.seq, o.owner_id, o.id, o.table_name, o.record_id, o.op, o.data, o.field_meta, o.created_at, o.space_id
    FROM placed AS o  -- not joined to taken: the shard's lock makes them equal, and a join of two CTEs is planned as a loop
   WHERE o.id IS NOT NULL AND o.is_here
   ORDER BY o.created_at, o.id;
END;

COMMENT ON FUNCTION mana_ai.take_changes IS
'Takes the next changes of buckets [p_lo, p_hi), in fold order; deleting is what consumes. Bounded by rows and by
estimated uncompressed bytes, at least one. A member''s row of a shared space whose owner lives in another shard''s
bucket is handed on to that bucket.';
ALTER FUNCTION mana_ai.take_changes OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.take_changes TO mana_supervisor;
