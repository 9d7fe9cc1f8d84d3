CREATE OR REPLACE FUNCTION mana_ai.compact_record(p_user text, p_app text, p_table text, p_record text, p_keep interval,
  p_after_at timestamptz, p_after_id uuid, p_removes boolean,
  OUT outcome text, OUT removed bigint, OUT bytes bigint, OUT next_at timestamptz, OUT next_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before timestamptz := clock_timestamp() - greatest(p_keep, interval '1 day');
  is_folded boolean := p_app = 'ai' AND p_table IN ('aiMissions', 'agents');
  owners text[] := '{}'::text[];
  snapshots jsonb := '{}'::jsonb;
  told jsonb := '{}'::jsonb;
  gone uuid[] := '{}'::uuid[];
  change record;
BEGIN
  removed := 0;
  bytes := 0;
  outcome := 'done';
  IF octet_length(p_user) > 512 OR octet_length(p_record) > 512 THEN
    RETURN;  -- no reader takes such rows
  END IF;

  -- A snapshot counts the rows that it was made of, so it is held, and has to agree with the log.
  IF is_folded THEN
    owners := ARRAY(SELECT DISTINCT CASE WHEN mana_ai.is_shared(c.space_id) THEN mana_ai.owner_of(p_user, p_table, p_record, c.space_id)
                                         ELSE p_user END
                      FROM mana_ai.compactor_log AS c
                     WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record);
    IF p_table = 'aiMissions' THEN
      SELECT jsonb_object_agg(s.user_id, jsonb_build_array(s.folded_count, s.folded_digest)) INTO snapshots FROM (
        SELECT m.user_id, m.folded_count, m.folded_digest FROM mana_ai.mission_snapshots AS m
         WHERE m.mission_id = p_record AND m.user_id = ANY (owners) AND NOT m.heal FOR UPDATE SKIP LOCKED) AS s;
    ELSE
      SELECT jsonb_object_agg(s.user_id, jsonb_build_array(s.folded_count, s.folded_digest)) INTO snapshots FROM (
        SELECT a.user_id, a.folded_count, a.folded_digest FROM mana_ai.agent_snapshots AS a
         WHERE a.agent_id = p_record AND a.user_id = ANY (owners) FOR UPDATE SKIP LOCKED) AS s;
    END IF;
    IF EXISTS (SELECT FROM unnest(owners) AS o (owner) WHERE snapshots -> o.owner IS NULL) THEN
      outcome := 'held';
      RETURN;
    END IF;
  END IF;

  FOR change IN
    WITH old AS (
      SELECT c.*, CASE jsonb_typeof(c.data) WHEN 'object' THEN c.data ELSE '{}' END AS fields,
             row_number() OVER (ORDER BY c.created_at, c.id) AS n,
             coalesce(sum(c.stored * 8) OVER (ORDER BY c.created_at, c.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS so_far
        FROM (SELECT l.*, coalesce(pg_column_size(l.data), 0)::bigint + coalesce(pg_column_size(l.field_meta), 0) AS stored
                FROM mana_ai.compactor_log AS l
               WHERE l.user_id = p_user AND l.app_id = p_app AND l.table_name = p_table AND l.record_id = p_record
                 AND l.created_at < before AND (l.created_at, l.id) > (p_after_at, p_after_id)
               ORDER BY l.created_at, l.id LIMIT 128) AS c),
    taken AS MATERIALIZED (
      SELECT o.*, (o.op = 'update' AND jsonb_typeof(o.data) = 'object' AND jsonb_typeof(o.field_meta) = 'object'
                   AND length(o.data::text) <= 2097152 AND length(o.field_meta::text) <= 1048576
                   AND o.data::text !~ '[0-9]{200}' AND o.field_meta::text !~ '[0-9]{200}'
                   AND NOT jsonb_path_exists(o.data, '$.**{64 to last}') AND NOT jsonb_path_exists(o.field_meta, '$.**{64 to last}')
                   AND NOT EXISTS (SELECT FROM mana_ai.quarantine AS q WHERE q.change_id = o.id)) IS TRUE AS is_sound
        FROM old AS o WHERE o.so_far < 25165824),
    resets AS MATERIALIZED (
      SELECT t.created_at, t.id FROM taken AS t WHERE t.op = 'delete' AND coalesce(t.fields ->> 'deletedAt', '') = ''
      UNION ALL
      SELECT c.created_at, c.id FROM mana_ai.compactor_log AS c
       WHERE (SELECT bool_or(mana_ai.is_shared(t.space_id)) FROM taken AS t)
         AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record AND c.user_id <> p_user AND c.op = 'delete'
         AND c.space_id IN (SELECT t.space_id FROM taken AS t) AND coalesce(c.data ->> 'deletedAt', '') = ''),
    placed AS MATERIALIZED (
      SELECT t.*, t.is_sound AND row_number() OVER (PARTITION BY t.space_id, t.is_sound,
                    (SELECT count(*) FROM resets AS r WHERE (r.created_at, r.id) < (t.created_at, t.id)) ORDER BY t.n) = 1 AS is_first
        FROM taken AS t),
    stamped AS (
      SELECT p.n, p.space_id, k.name, CASE WHEN s.at ~ ('^[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)'
               || '|02-(0[1-9]|1[0-9]|2[0-8]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{3}Z$') THEN s.at COLLATE "C" END AS at
        FROM placed AS p CROSS JOIN LATERAL jsonb_object_keys(p.fields) AS k (name)
       CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(p.field_meta -> k.name) WHEN 'object' THEN p.field_meta -> k.name ->> 'at'
                                                                             ELSE p.field_meta ->> k.name END AS at) AS s
       WHERE p.is_sound AND k.name NOT IN ('id', '__fieldMeta', '_updatedAtIndex')),
    overtaken AS (
      SELECT s.n, bool_and(coalesce(s.later > s.at, false)) AS is_whole FROM (
        SELECT x.n, x.at, max(x.at) OVER (PARTITION BY x.space_id, x.name ORDER BY x.n DESC
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later FROM stamped AS x) AS s
       GROUP BY s.n),
    runs AS MATERIALIZED (
      SELECT p.n, coalesce(p.space_id, '') || ' ' || coalesce(e.value ->> 'id', md5(e.value::text)) AS name, md5(e.value::text) AS said,
             max(p.n) OVER (PARTITION BY p.space_id, coalesce(e.value ->> 'id', md5(e.value::text))) = p.n AS is_last
        FROM placed AS p CROSS JOIN LATERAL jsonb_array_elements(
               CASE WHEN p_table = 'aiMissions' AND jsonb_typeof(p.fields -> 'iterations') = 'array' THEN p.fields -> 'iterations' ELSE '[]' END) AS e
       WHERE jsonb_typeof(e.value) = 'object')
    SELECT p.id, p.created_at, p.stored, NOT p.is_sound OR p.is_first OR NOT coalesce(o.is_whole, true) AS stays,
           coalesce(r.says, '{}') AS says, coalesce(r.says_last, '{}') AS says_last
      FROM placed AS p LEFT JOIN overtaken AS o USING (n)
      LEFT JOIN (SELECT x.n, jsonb_object_agg(x.name, x.said) AS says, jsonb_object_agg(x.name, x.said) FILTER (WHERE x.is_last) AS says_last
                   FROM runs AS x GROUP BY x.n) AS r USING (n)
     ORDER BY p.n
  LOOP
    next_at := change.created_at;
    next_id := change.id;
    IF change.stays OR NOT told @> change.says_last THEN
      told := told || change.says;
    ELSE
      gone := gone || change.id;
      removed := removed + 1;
      bytes := bytes + change.stored + 150;
    END IF;
  END LOOP;

  -- Asked after all that was looked at: a row that came meanwhile is not folded, and must neither go nor overtake one that is.
  IF is_folded AND (
       EXISTS (SELECT FROM mana_ai.change_feed AS f WHERE f.record_id = p_record AND f.table_name = p_table)
       OR EXISTS (SELECT FROM unnest(owners) AS o (owner) WHERE snapshots -> o.owner IS DISTINCT FROM (
            SELECT jsonb_build_array(count(*), bit_xor(mana_ai.change_digest(r.id)))
              FROM mana_ai.record_rows(o.owner, p_table, p_record) AS r))) THEN
    removed := 0;
    bytes := 0;
    outcome := 'unfolded';
    RETURN;
  END IF;

  IF p_removes AND removed > 0 THEN
    WITH deleted AS (
      DELETE FROM mana_ai.compactor_log AS c WHERE c.id = ANY (gone) RETURNING c.id, c.space_id),
    late AS (
      DELETE FROM mana_ai.sync_late AS l USING deleted AS d WHERE l.change_id = d.id),
    counted AS (
      SELECT CASE WHEN mana_ai.is_shared(d.space_id) THEN mana_ai.owner_of(p_user, p_table, p_record, d.space_id) ELSE p_user END AS owner,
             count(*) AS n, bit_xor(mana_ai.change_digest(d.id)) AS digest FROM deleted AS d GROUP BY 1),
    missions AS (
      UPDATE mana_ai.mission_snapshots AS s SET folded_count = s.folded_count - d.n, folded_digest = s.folded_digest # d.digest
        FROM counted AS d WHERE is_folded AND p_table = 'aiMissions' AND s.user_id = d.owner AND s.mission_id = p_record),
    agents AS (
      UPDATE mana_ai.agent_snapshots AS s SET folded_count = s.folded_count - d.n, folded_digest = s.folded_digest # d.digest
        FROM counted AS d WHERE is_folded AND p_table = 'agents' AND s.user_id = d.owner AND s.agent_id = p_record)
    SELECT coalesce(sum(d.n), 0)::bigint INTO removed FROM counted AS d;
  END IF;
  IF next_at IS NOT NULL AND NOT EXISTS (
       SELECT FROM mana_ai.compactor_log AS l
        WHERE l.user_id = p_user AND l.app_id = p_app AND l.table_name = p_table AND l.record_id = p_record
          AND l.created_at < before AND (l.created_at, l.id) > (next_at, next_id)) THEN
    next_at := NULL;
    next_id := NULL;
  END IF;
END $$;

COMMENT ON FUNCTION mana_ai.compact_record IS
'Removes updates of one person''s record that are older than p_keep and of which newer ones of that person in the same space, which
are that old too, wrote every field with a later stamp: whoever reads the rest, from whichever row on, ends with the same record. Inserts,
deletes, the first update of a space and after each hard delete (what seeds a record has no stamps), rows in quarantine and rows with
anything unusual stay. So does the last row that tells of an iteration of a mission. It looks at 128 rows after (p_after_at,
p_after_id); next_at and next_id say where to go on, null at the end. Without p_removes it only counts. A record of missions or agents
is passed over as long as its snapshot is held or differs from the log.';
ALTER FUNCTION mana_ai.compact_record OWNER TO mana_compactor;
GRANT EXECUTE ON FUNCTION mana_ai.compact_record TO mana_janitor;
