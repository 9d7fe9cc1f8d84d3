CREATE OR REPLACE FUNCTION mana_ai.note_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.sync_pending (feed, change_id, created_at)
  SELECT left('user:' || a.user_id, 512), a.id, a.created_at FROM added AS a
  UNION ALL
  SELECT left('space:' || a.space_id, 512), a.id, a.created_at FROM added AS a WHERE mana_ai.is_shared(a.space_id);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'mana_ai: rows not noted for devices (%)', SQLSTATE;
  RETURN NULL;
END $$;

COMMENT ON FUNCTION mana_ai.note_rows IS
'Notes new rows for the feeds that they belong to, whoever writes them. It runs inside the writer''s transaction: it waits for
nobody, and whatever goes wrong in it is a warning. A row that is not noted still reaches devices, unless it becomes visible
after a later one was sent.';
ALTER FUNCTION mana_ai.note_rows OWNER TO mana_router;
