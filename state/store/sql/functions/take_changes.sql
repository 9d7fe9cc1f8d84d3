CREATE OR REPLACE FUNCTION mana_ai.take_changes(p_lo int, p_hi int, p_users text[], p_tables text[], p_records text[], p_shared boolean[],
  p_seqs bigint[], p_bytes bigint)
RETURNS TABLE (owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb,
               created_at timestamptz, space_id text, left_out bigint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(p_users, p_tables, p_records, p_shared) AS k (owner_id, table_name, record_id, is_shared)),
  -- Record by record, by the index: = ANY of an array compares each row with every element, and a join may read the whole feed.
  near AS MATERIALIZED (
    SELECT n.* FROM (SELECT DISTINCT w.record_id FROM wanted AS w) AS d CROSS JOIN LATERAL (
      SELECT f.seq, f.change_id, f.user_id, f.table_name, f.record_id FROM mana_ai.change_feed AS f
       WHERE f.record_id = d.record_id AND f.bucket >= p_lo AND f.bucket < p_hi
         AND (p_seqs IS NULL OR f.seq = ANY (p_seqs)) OFFSET 0) AS n),
  waiting AS MATERIALIZED (
    SELECT n.seq, n.change_id FROM near AS n
      JOIN wanted AS w ON (w.owner_id, w.table_name, w.record_id) = (n.user_id, n.table_name, n.record_id)
     UNION
    SELECT n.seq, n.change_id FROM near AS n
      JOIN wanted AS w ON w.is_shared AND (w.table_name, w.record_id) = (n.table_name, n.record_id)),
  owned AS (
    SELECT f.seq, c.*, CASE WHEN c.op = 'insert' OR NOT mana_ai.is_shared(c.space_id) THEN c.user_id
                            ELSE mana_ai.owner_of(c.user_id, c.table_name, c.record_id, c.space_id) END AS owner_id
      FROM waiting AS f JOIN mana_ai.router_log AS c ON c.id = f.change_id),
  sized AS MATERIALIZED (  -- pglz and lz4 reach about 1:100 and 1:250; measuring exactly would decompress what is not taken
    SELECT o.*, coalesce(sum(coalesce(pg_column_size(o.data), 0)::bigint * CASE WHEN pg_column_compression(o.data) IS NULL THEN 1 ELSE 100 END)
                  OVER (ORDER BY o.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) < p_bytes AS fits
      FROM owned AS o
     WHERE (o.owner_id, o.table_name, o.record_id) IN (SELECT w.owner_id, w.table_name, w.record_id FROM wanted AS w)),
  taken AS (
    DELETE FROM mana_ai.change_feed AS f USING sized AS s WHERE f.seq = s.seq AND s.fits)
  SELECT s.owner_id, s.id, s.table_name, s.record_id, s.op, s.data, s.field_meta, s.created_at, s.space_id,
         (SELECT count(*) FROM sized AS o WHERE NOT o.fits)
    FROM sized AS s  -- the shard's lock makes what is read and what is deleted equal
   WHERE s.fits
   ORDER BY s.created_at, s.id;
END;

COMMENT ON FUNCTION mana_ai.take_changes IS
'Takes all that the feed holds of these records, in fold order; deleting is what consumes. Their snapshots have to be
locked before. p_seqs: these rows alone, null: all. p_shared: whether rows of members may belong to a record. Bounded by
estimated uncompressed bytes, at least one row; left_out says how many rows stay for that.';
ALTER FUNCTION mana_ai.take_changes OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.take_changes TO mana_supervisor;
