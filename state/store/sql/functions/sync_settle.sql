CREATE OR REPLACE FUNCTION mana_ai.sync_settle(p_older_s double precision, p_most int, OUT forgotten bigint, OUT published bigint,
  OUT oldest_s double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
  until_then timestamptz := clock_timestamp() - p_older_s * interval '1 second';
BEGIN
  DELETE FROM mana_ai.sync_pending AS p
   WHERE p.noted_at < until_then AND NOT EXISTS (SELECT FROM mana_ai.sync_feeds AS f WHERE f.feed = p.feed);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  published := 0;
  FOR name IN
    SELECT DISTINCT p.feed FROM mana_ai.sync_pending AS p WHERE p.noted_at < until_then ORDER BY 1 LIMIT p_most
  LOOP
    PERFORM mana_ai.publish_feeds(ARRAY[name], 'epoch');
    published := published + 1;
  END LOOP;
  SELECT coalesce(extract(epoch FROM clock_timestamp() - min(p.noted_at)), 0)::double precision INTO oldest_s FROM mana_ai.sync_pending AS p;
END $$;

COMMENT ON FUNCTION mana_ai.sync_settle IS
'Keeps what is noted short where no device asks, for the gateway: publishes feeds that waited for so long, and forgets what is
noted for feeds that no device ever asked for, since nobody has a position in them. oldest_s: how long the oldest has waited.';
ALTER FUNCTION mana_ai.sync_settle OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sync_settle TO mana_gateway;
