CREATE OR REPLACE FUNCTION mana_ai.waiting_records(p_lo int, p_hi int, p_floor bigint, p_limit int)
RETURNS TABLE (seq bigint, owner_id text, table_name text, record_id text, is_shared boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH head AS MATERIALIZED (
    SELECT f.seq, f.change_id FROM mana_ai.change_feed AS f
     WHERE f.seq > p_floor AND f.bucket >= p_lo AND f.bucket < p_hi ORDER BY f.seq LIMIT p_limit),
  owned AS (
    SELECT h.seq, c.id, c.user_id, c.table_name, c.record_id, c.op, c.space_id, mana_ai.is_shared(c.space_id) AS is_shared,
           CASE WHEN c.op = 'insert' OR NOT mana_ai.is_shared(c.space_id) THEN c.user_id
                ELSE mana_ai.owner_of(c.user_id, c.table_name, c.record_id, c.space_id) END AS owner_id
      FROM head AS h LEFT JOIN mana_ai.router_log AS c ON c.id = h.change_id),
  placed AS MATERIALIZED (
    -- Only a shared row is ever handed on, and its owner may have changed since: the others need no hashing.
    SELECT o.*, o.id IS NOT NULL AND (o.op = 'insert' OR NOT o.is_shared
                OR (mana_ai.bucket_of(o.owner_id) >= p_lo AND mana_ai.bucket_of(o.owner_id) < p_hi)) AS is_here
      FROM owned AS o),
  left_behind AS (
    DELETE FROM mana_ai.change_feed AS f USING placed AS p WHERE f.seq = p.seq AND NOT p.is_here),
  handed_on AS (
    INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id, space_id)
    SELECT mana_ai.bucket_of(p.owner_id), p.id, p.user_id, p.table_name, p.record_id, p.space_id FROM placed AS p
     WHERE p.id IS NOT NULL AND NOT p.is_here)
  SELECT p.seq, CASE WHEN p.is_here THEN p.owner_id END, p.table_name, p.record_id, p.is_shared FROM placed AS p ORDER BY p.seq;
END;

COMMENT ON FUNCTION mana_ai.waiting_records IS
'Whose records the next p_limit rows of the feed after p_floor change, in buckets [p_lo, p_hi): their snapshots are locked
before take_changes takes the rows. A member''s row of a shared space whose owner lives in another shard''s bucket is
handed on to that bucket, and an entry without its row is dropped; both return no owner.';
ALTER FUNCTION mana_ai.waiting_records OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.waiting_records TO mana_supervisor;
