CREATE OR REPLACE FUNCTION mana_ai.reconcile(p_after text, p_users int, p_lo int, p_hi int)
RETURNS TABLE (user_id text, table_name text, record_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
BEGIN ATOMIC
  WITH RECURSIVE walk AS (
    SELECT least((SELECT l.user_id FROM mana_ai.router_log AS l WHERE l.user_id > p_after ORDER BY l.user_id LIMIT 1),
                 (SELECT s.user_id FROM mana_ai.mission_snapshots AS s WHERE s.user_id > p_after ORDER BY s.user_id LIMIT 1),
                 (SELECT s.user_id FROM mana_ai.agent_snapshots AS s WHERE s.user_id > p_after ORDER BY s.user_id LIMIT 1)) AS user_id, 1 AS n
    UNION ALL
    SELECT least((SELECT l.user_id FROM mana_ai.router_log AS l WHERE l.user_id > w.user_id ORDER BY l.user_id LIMIT 1),
                 (SELECT s.user_id FROM mana_ai.mission_snapshots AS s WHERE s.user_id > w.user_id ORDER BY s.user_id LIMIT 1),
                 (SELECT s.user_id FROM mana_ai.agent_snapshots AS s WHERE s.user_id > w.user_id ORDER BY s.user_id LIMIT 1)), w.n + 1
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

COMMENT ON FUNCTION mana_ai.reconcile IS
'Compares the snapshots of the next p_users users after p_after, in buckets [p_lo, p_hi), with the log, by count and
digest of change ids. The next user is the next entry of an index, whatever statistics say: those of tables just filled
make a planner read all that is left for each of them. Returns the records that differ, and one row without a table that names the last user looked at.';
ALTER FUNCTION mana_ai.reconcile OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.reconcile TO mana_supervisor;
