CREATE OR REPLACE FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_client text, p_since timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  feeds text[] := mana_ai.sync_feeds_of(p_user, p_spaces);
  upto timestamptz := mana_ai.publish_feeds(feeds, p_since);
  is_new boolean;
  before jsonb;
BEGIN
  SELECT d.joined INTO before FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id = p_client;
  IF p_client = '' OR before ?& p_spaces
                      AND (SELECT count(*) FROM jsonb_object_keys(before)) = (SELECT count(DISTINCT s.id) FROM unnest(p_spaces) AS s (id)) THEN
    RETURN upto;
  END IF;
  -- The person's first, as whoever publishes does; so all their devices come here one by one.
  PERFORM FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds) ORDER BY f.feed FOR UPDATE;
  SELECT d.joined INTO before FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id = p_client;
  is_new := NOT FOUND;
  IF NOT coalesce(before, '{}') ?& p_spaces AND NOT (is_new AND p_since <= 'epoch') THEN
    -- Behind all that any device of theirs was told, so that this one still comes past it.
    SELECT max(f.until) + interval '1 microsecond' INTO upto FROM mana_ai.sync_feeds AS f WHERE f.feed = ANY (feeds);
    UPDATE mana_ai.sync_feeds AS f SET until = upto WHERE f.feed = ANY (feeds);
  END IF;
  IF is_new THEN
    DELETE FROM mana_ai.sync_devices AS d WHERE d.user_id = p_user AND d.client_id IN (
      SELECT o.client_id FROM mana_ai.sync_devices AS o WHERE o.user_id = p_user ORDER BY o.made_at DESC OFFSET 999);
  END IF;
  INSERT INTO mana_ai.sync_devices AS d (user_id, client_id, joined)
  SELECT p_user, p_client, coalesce(jsonb_object_agg(s.id, coalesce(before -> s.id, to_jsonb(
           CASE WHEN is_new AND p_since <= 'epoch' THEN 0 ELSE (extract(epoch FROM upto) * 1000000)::bigint END))), '{}')
    FROM unnest(p_spaces) AS s (id)
  ON CONFLICT (user_id, client_id) DO UPDATE SET joined = excluded.joined;
  RETURN upto;
END $$;

COMMENT ON FUNCTION mana_ai.sync_publish IS
'Up to which position a person''s feeds may be read now (publish_feeds), for the gateway. p_since is the position that their
device p_client came with. Of a space that this device was not in before, older rows get the returned position (sync_page), but for
a device that begins; p_client '''' is none.';
ALTER FUNCTION mana_ai.sync_publish OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sync_publish TO mana_gateway;
