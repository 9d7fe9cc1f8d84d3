CREATE OR REPLACE FUNCTION mana_ai.feed_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.change_feed (bucket, change_id, user_id, table_name, record_id, space_id)
  SELECT mana_ai.bucket_of(user_id), id, user_id, table_name, record_id, CASE WHEN mana_ai.is_shared(space_id) THEN space_id END
    FROM added WHERE app_id = 'ai' AND table_name IN ('aiMissions', 'agents');
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: change feed not written (%); the reconcile sweep will bring the rows in', SQLSTATE;
  RETURN NULL;
END $$;

COMMENT ON FUNCTION mana_ai.feed_changes IS
'Copies pushed rows of missions and agents into the feed. It runs inside the pushing client''s transaction and must
never stop somebody''s sync, so it catches everything and warns. The reconcile sweep brings in what it misses.';
ALTER FUNCTION mana_ai.feed_changes OWNER TO mana_router;
