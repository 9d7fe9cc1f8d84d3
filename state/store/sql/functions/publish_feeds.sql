CREATE OR REPLACE FUNCTION mana_ai.publish_feeds(p_feeds text[], p_since timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fresh text[];
  known bigint;
  upto timestamptz;
  farthest timestamptz;
  is_waiting boolean;
  moment timestamptz := clock_timestamp();
  told timestamptz := least(coalesce(p_since, 'epoch'), moment);
BEGIN
  -- One statement, so that all it sees is of one moment: what is noted nowhere was published before.
  SELECT count(*), min(f.until), max(f.until), EXISTS (SELECT FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (p_feeds))
    INTO known, upto, farthest, is_waiting FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds);
  -- Feeds that others share may be ahead: their rows come once all are lifted to the same position.
  IF known = cardinality(p_feeds) AND NOT is_waiting AND upto = farthest AND upto >= told THEN
    RETURN upto;
  END IF;
  WITH made AS (
    INSERT INTO mana_ai.sync_feeds (feed, until) SELECT f.feed, clock_timestamp() FROM unnest(p_feeds) AS f (feed) ORDER BY f.feed
    ON CONFLICT DO NOTHING RETURNING feed)
  SELECT coalesce(array_agg(m.feed), '{}') INTO fresh FROM made AS m;
  PERFORM FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds) ORDER BY f.feed FOR UPDATE;
  moment := clock_timestamp();
  WITH taken AS (
    DELETE FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (p_feeds) RETURNING p.feed, p.change_id, p.created_at),
  judged AS (
    -- Of a new feed nobody was told a position, but for the one that this device came with.
    SELECT t.feed, t.change_id, t.created_at, f.until,
           t.created_at <= CASE WHEN f.feed = ANY (fresh) THEN told ELSE f.until END OR t.created_at > moment AS is_late
      FROM taken AS t JOIN mana_ai.sync_feeds AS f ON f.feed = t.feed),
  next AS (
    SELECT greatest((SELECT max(f.until) FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (p_feeds)), told,
                    (SELECT max(j.created_at) FROM judged AS j WHERE NOT j.is_late),
                    (SELECT max(j.until) + interval '1 microsecond' FROM judged AS j WHERE j.is_late)) AS until),
  late AS (
    INSERT INTO mana_ai.sync_late (feed, position, change_id)
    SELECT j.feed, n.until, j.change_id FROM judged AS j CROSS JOIN next AS n
     WHERE j.is_late AND isfinite(j.created_at)),  -- no other is ever sent
  lifted AS (
    UPDATE mana_ai.sync_feeds AS f SET until = n.until FROM next AS n WHERE f.feed = ANY (p_feeds) AND f.until <> n.until)
  SELECT n.until INTO upto FROM next AS n;
  RETURN upto;
END $$;

COMMENT ON FUNCTION mana_ai.publish_feeds IS
'Publishes what was noted for these feeds, each named once, and returns the position up to which they may be read now:
whatever becomes visible later gets a later one. No position above it may be told to a device, so p_since, the one that a
device came with, lifts it (never above the clock). A feed that has nothing new is not locked.';
ALTER FUNCTION mana_ai.publish_feeds OWNER TO mana_router;
