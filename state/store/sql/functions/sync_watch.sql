CREATE OR REPLACE FUNCTION mana_ai.sync_watch(p_feeds text[], OUT feed text, OUT until timestamptz, OUT is_noted boolean) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT w.feed, f.until, EXISTS (SELECT FROM mana_ai.sync_pending AS p WHERE p.feed = w.feed)
    FROM unnest(p_feeds) AS w (feed) LEFT JOIN mana_ai.sync_feeds AS f ON f.feed = w.feed
$$;

COMMENT ON FUNCTION mana_ai.sync_watch IS
'How far these feeds are published, and whether there is more to publish, for the gateway: what it asks every second while
devices listen, for all of them at once.';
ALTER FUNCTION mana_ai.sync_watch OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sync_watch TO mana_gateway;
