-- What a device has seen is one position in time, while rows become visible in another order than that of their created_at, which is
-- when their transaction began, or whatever its writer says. So each feed (a person's rows, a shared space's rows) is published up to
-- a moment, and a row that turns up behind that moment gets a position of its own after it. A trigger notes every row; whoever asks
-- for a feed first publishes what was noted, under the feed's lock. No writer waits for anybody, and nobody waits for a writer.
SET LOCAL ROLE mana_owner;
CREATE TABLE mana_ai.sync_feeds (
  feed text PRIMARY KEY,  -- user:USER or space:SPACE, the first 512 letters
  until timestamptz NOT NULL) WITH (fillfactor = 70);

-- No constraint that could fail a push. Deleting is what publishes.
CREATE TABLE mana_ai.sync_pending (
  feed text NOT NULL,
  change_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX sync_pending_feed ON mana_ai.sync_pending (feed);

CREATE TABLE mana_ai.sync_late (
  feed text NOT NULL,
  position timestamptz NOT NULL,
  change_id uuid NOT NULL,
  PRIMARY KEY (feed, position, change_id));

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['sync_feeds', 'sync_pending', 'sync_late'] LOOP
    EXECUTE format('ALTER TABLE mana_ai.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE mana_ai.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY router_publishes ON mana_ai.%I TO mana_router USING (true) WITH CHECK (true)', name);
  END LOOP;
END $$;
CREATE POLICY owner_reads ON mana_ai.sync_late FOR SELECT TO mana_owner USING (true);
GRANT SELECT, INSERT, UPDATE ON mana_ai.sync_feeds TO mana_router;
GRANT SELECT, INSERT, DELETE ON mana_ai.sync_pending TO mana_router;
GRANT SELECT, INSERT ON mana_ai.sync_late TO mana_router;
RESET ROLE;

-- Rows of a shared space in order, whoever wrote them. Personal rows are found by their author.
DO $$
BEGIN
  IF to_regclass('public.idx_sync_changes_shared') IS NULL THEN
    CREATE INDEX idx_sync_changes_shared ON public.sync_changes (space_id, app_id, created_at)
     WHERE space_id IS NOT NULL AND NOT starts_with(space_id, '_personal:');
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.sync_changes'::regclass AND tgname = 'mana_ai_sync') THEN
    CREATE TRIGGER mana_ai_sync AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added
      FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.note_rows();
  END IF;
END $$;
