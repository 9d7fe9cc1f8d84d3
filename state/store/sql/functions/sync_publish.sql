CREATE OR REPLACE FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_since timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
  fresh text[];
  known bigint;
  upto timestamptz;
  is_waiting boolean;
  moment timestamptz := clock_timestamp();
  told timestamptz := least(coalesce(p_since, 'epoch'), moment);
BEGIN
  -- One statement, so that all it sees is of one moment: what is noted nowhere was published before.
  SELECT count(*), min(f.until), EXISTS (SELECT FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (feeds))
    INTO known, upto, is_waiting FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds);
  IF known = cardinality(feeds) AND NOT is_waiting AND upto >= told THEN
    RETURN upto;
  END IF;
  WITH made AS (
    INSERT INTO mana_ai.sync_feeds (feed, until) SELECT f.feed, clock_timestamp() FROM unnest(feeds) AS f (feed) ORDER BY f.feed
    ON CONFLICT DO NOTHING RETURNING feed)
  SELECT coalesce(array_agg(m.feed), '{}') INTO fresh FROM made AS m;
  PERFORM FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds) ORDER BY f.feed FOR UPDATE;
  moment := clock_timestamp();
  WITH taken AS (
    DELETE FROM mana_ai.sync_pending AS p WHERE p.feed = ANY (feeds) RETURNING p.feed, p.change_id, p.created_at),
  judged AS (
    -- Of a new feed nobody was told a position, but for the one that this device came with.
    SELECT t.feed, t.change_id, t.created_at, f.until,
           t.created_at <= CASE WHEN f.feed = ANY (fresh) THEN told ELSE f.until END OR t.created_at > moment AS is_late
      FROM taken AS t JOIN mana_ai.sync_feeds AS f ON f.feed = t.feed),
  next AS (
    SELECT greatest((SELECT max(f.until) FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds)), told,
                    (SELECT max(j.created_at) FROM judged AS j WHERE NOT j.is_late),
                    (SELECT max(j.until) + interval '1 microsecond' FROM judged AS j WHERE j.is_late)) AS until),
  late AS (
    INSERT INTO mana_ai.sync_late (feed, position, change_id)
    SELECT j.feed, n.until, j.change_id FROM judged AS j CROSS JOIN next AS n WHERE j.is_late)
  UPDATE mana_ai.sync_feeds AS f SET until = n.until FROM next AS n WHERE f.feed = ANY (feeds) RETURNING f.until INTO upto;
  RETURN upto;
END $$;

COMMENT ON FUNCTION mana_ai.sync_publish IS
'Publishes what was noted for a person''s feeds, for the gateway, and returns the position up to which they may be read now:
whatever becomes visible later gets a later one. No position above it may be told to a device, so p_since, the one that a
device came with, lifts it (never above the clock). A feed that has nothing new is not locked.';
ALTER FUNCTION mana_ai.sync_publish OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sync_publish TO mana_gateway;
