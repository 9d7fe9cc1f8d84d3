GRANT CREATE ON SCHEMA mana_ai TO mana_router;  -- only until the objects below are handed over

-- The log as our functions see it. A view, because an old sync service still calls the stamps field_timestamps.
DO $$
DECLARE
  stamps text := CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'public.sync_changes'::regclass
                                      AND attname = 'field_meta' AND NOT attisdropped)
                      THEN 'field_meta' ELSE 'field_timestamps' END;
  columns text := format('id, app_id, table_name, record_id, user_id, op, data, %I AS field_meta, client_id, created_at,
                          schema_version, actor, origin, space_id', stamps);
BEGIN
  EXECUTE 'CREATE VIEW mana_ai.log_rows AS SELECT ' || columns || ' FROM public.sync_changes';
  EXECUTE 'CREATE VIEW mana_ai.router_log AS SELECT ' || columns || ' FROM public.sync_changes';
END $$;
ALTER VIEW mana_ai.log_rows OWNER TO mana_owner;     -- writes of claim/commit: the log's own user policy applies
ALTER VIEW mana_ai.router_log OWNER TO mana_router;  -- reads of two tables across users, and nothing else

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass AND polname = 'mana_router_read') THEN
    CREATE POLICY mana_router_read ON public.sync_changes FOR SELECT TO mana_router
      USING (app_id = 'ai' AND table_name IN ('aiMissions', 'agents'));
  END IF;
END $$;
GRANT SELECT ON public.sync_changes TO mana_router;
GRANT SELECT, INSERT ON public.sync_changes TO mana_owner;

-- A row of a shared space folds into the record of whoever inserted it; a personal row always into its author's.
CREATE FUNCTION mana_ai.is_shared(p_space text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_space IS NOT NULL AND p_space <> '' AND NOT starts_with(p_space, '_personal:');

CREATE FUNCTION mana_ai.owner_of(p_user text, p_table text, p_record text, p_space text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN EXISTS (SELECT FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table AND record_id = p_record
                            AND user_id = p_user AND op = 'insert') THEN p_user
            ELSE coalesce((SELECT user_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                              AND record_id = p_record AND space_id = p_space AND op = 'insert'
                            ORDER BY created_at, id LIMIT 1), p_user) END;

-- Every row that folds into one user's record.
CREATE FUNCTION mana_ai.record_rows(p_user text, p_table text, p_record text) RETURNS SETOF mana_ai.router_log LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT * FROM mana_ai.router_log AS own
   WHERE own.app_id = 'ai' AND own.table_name = p_table AND own.record_id = p_record AND own.user_id = p_user
     AND (own.op = 'insert' OR NOT mana_ai.is_shared(own.space_id)
          OR mana_ai.owner_of(own.user_id, p_table, p_record, own.space_id) = p_user)
  UNION ALL
  SELECT * FROM mana_ai.router_log AS members
   WHERE members.app_id = 'ai' AND members.table_name = p_table AND members.record_id = p_record AND members.user_id <> p_user
     AND members.op <> 'insert' AND mana_ai.is_shared(members.space_id)
     AND members.space_id IN (SELECT space_id FROM mana_ai.router_log WHERE app_id = 'ai' AND table_name = p_table
                                 AND record_id = p_record AND user_id = p_user AND op = 'insert')
     AND mana_ai.owner_of(members.user_id, p_table, p_record, members.space_id) = p_user;
END;

-- Runs in the pushing client's transaction: it must never stop somebody's sync, so it catches everything and warns.
-- What it misses, the reconcile sweep brings in.
CREATE FUNCTION mana_ai.feed_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id)
  SELECT mana_ai.bucket_of(user_id), id, user_id, table_name, record_id
    FROM added WHERE app_id = 'ai' AND table_name IN ('aiMissions', 'agents');
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: change feed not written (%); the reconcile sweep will bring the rows in', SQLSTATE;
  RETURN NULL;
END $$;

-- Finds the feed rows of one record; a hash, so that no length of an id can make an insert fail.
CREATE INDEX change_feed_record ON mana_ai.change_feed USING hash (record_id);

-- Takes the next changes of buckets [p_lo, p_hi), in fold order. Bounded by rows and by (estimated uncompressed) bytes, at
-- least one. A member's row of a shared space whose owner lives in another shard's bucket is handed on to that bucket.
CREATE FUNCTION mana_ai.take_changes(p_lo int, p_hi int, p_floor bigint, p_limit int, p_bytes bigint)
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

-- Reads records whole, in fold order, after dropping what the feed still holds of them: a row that commits between the two
-- statements is both read here and left in the feed, comes again as a late row, and the record is replayed once more.
CREATE FUNCTION mana_ai.replay_records(p_users text[], p_tables text[], p_records text[])
RETURNS TABLE (owner_id text, change_id uuid, table_name text, record_id text, op text, data jsonb, field_meta jsonb,
               created_at timestamptz, space_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM mana_ai.change_feed AS f
   USING unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
   WHERE f.record_id = k.record_id AND f.table_name = k.table_name AND f.user_id = k.user_id;
  RETURN QUERY
    SELECT k.user_id, c.id, c.table_name, c.record_id, c.op, c.data, c.field_meta, c.created_at, c.space_id
      FROM unnest(p_users, p_tables, p_records) AS k (user_id, table_name, record_id)
     CROSS JOIN LATERAL mana_ai.record_rows(k.user_id, k.table_name, k.record_id) AS c
     ORDER BY c.created_at, c.id;
END $$;

-- Compares the snapshots of the next p_users users after p_after (in buckets [p_lo, p_hi)) with the log, by count and
-- digest of change ids; returns the records that differ, and one row with null table for the last user looked at.
CREATE FUNCTION mana_ai.reconcile(p_after text, p_users int, p_lo int, p_hi int)
RETURNS TABLE (user_id text, table_name text, record_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH RECURSIVE walk AS (
    SELECT least((SELECT min(l.user_id) FROM mana_ai.router_log AS l WHERE l.user_id > p_after),
                 (SELECT min(s.user_id) FROM mana_ai.mission_snapshots AS s WHERE s.user_id > p_after),
                 (SELECT min(s.user_id) FROM mana_ai.agent_snapshots AS s WHERE s.user_id > p_after)) AS user_id, 1 AS n
    UNION ALL
    SELECT least((SELECT min(l.user_id) FROM mana_ai.router_log AS l WHERE l.user_id > w.user_id),
                 (SELECT min(s.user_id) FROM mana_ai.mission_snapshots AS s WHERE s.user_id > w.user_id),
                 (SELECT min(s.user_id) FROM mana_ai.agent_snapshots AS s WHERE s.user_id > w.user_id)), w.n + 1
      FROM walk AS w WHERE w.user_id IS NOT NULL AND w.n < p_users),
  users AS (
    SELECT w.user_id FROM walk AS w WHERE w.user_id IS NOT NULL
       AND mana_ai.bucket_of(w.user_id) >= p_lo AND mana_ai.bucket_of(w.user_id) < p_hi),
  grouped AS (
    SELECT l.user_id, l.table_name, l.record_id, count(*) AS n, bit_xor(mana_ai.change_digest(l.id)) AS digest,
           bool_or(mana_ai.is_shared(l.space_id)) AS shared
      FROM users AS u JOIN mana_ai.router_log AS l ON l.user_id = u.user_id AND l.app_id = 'ai'
       AND l.table_name IN ('aiMissions', 'agents')
     GROUP BY l.user_id, l.table_name, l.record_id),
  logged AS (  -- rows of shared spaces may belong to somebody else's record: those keys are counted by their rule
    SELECT g.user_id, g.table_name, g.record_id, g.n, g.digest FROM grouped AS g WHERE NOT g.shared
    UNION ALL
    SELECT g.user_id, g.table_name, g.record_id, r.n, r.digest FROM grouped AS g
     CROSS JOIN LATERAL (SELECT count(*) AS n, bit_xor(mana_ai.change_digest(c.id)) AS digest
                           FROM mana_ai.record_rows(g.user_id, g.table_name, g.record_id) AS c) AS r
     WHERE g.shared AND r.n > 0),
  folded AS (
    SELECT s.user_id, 'aiMissions' AS table_name, s.mission_id AS record_id, s.folded_count, s.folded_digest
      FROM users AS u JOIN mana_ai.mission_snapshots AS s USING (user_id)
    UNION ALL
    SELECT s.user_id, 'agents', s.agent_id, s.folded_count, s.folded_digest
      FROM users AS u JOIN mana_ai.agent_snapshots AS s USING (user_id))
  SELECT coalesce(l.user_id, f.user_id), coalesce(l.table_name, f.table_name), coalesce(l.record_id, f.record_id)
    FROM logged AS l FULL JOIN folded AS f USING (user_id, table_name, record_id)
   WHERE (l.n, l.digest) IS DISTINCT FROM (f.folded_count, f.folded_digest)
  UNION ALL
  SELECT max(w.user_id), NULL, NULL FROM walk AS w;
END;

ALTER FUNCTION mana_ai.is_shared(text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.owner_of(text, text, text, text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.record_rows(text, text, text) OWNER TO mana_router;
ALTER FUNCTION mana_ai.feed_changes() OWNER TO mana_router;
ALTER FUNCTION mana_ai.take_changes(int, int, bigint, int, bigint) OWNER TO mana_router;
ALTER FUNCTION mana_ai.replay_records(text[], text[], text[]) OWNER TO mana_router;
ALTER FUNCTION mana_ai.reconcile(text, int, int, int) OWNER TO mana_router;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_router;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.sync_changes'::regclass AND tgname = 'mana_ai_feed') THEN
    CREATE TRIGGER mana_ai_feed AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added
      FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.feed_changes();
  END IF;
END $$;

-- Slots that fell due before we came are the old runner's affair; an empty log has none.
INSERT INTO mana_ai.install (slots_from)
SELECT CASE WHEN EXISTS (SELECT FROM mana_ai.router_log) THEN clock_timestamp() END;
