CREATE OR REPLACE FUNCTION mana_ai.sync_publish(p_user text, p_spaces text[], p_since timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN mana_ai.publish_feeds(mana_ai.sync_feeds_of(p_user, p_spaces), p_since);
END $$;

COMMENT ON FUNCTION mana_ai.sync_publish IS
'Up to which position a person''s feeds may be read now (publish_feeds), for the gateway. p_since is the position that their
device came with.';
ALTER FUNCTION mana_ai.sync_publish OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.sync_publish TO mana_gateway;
