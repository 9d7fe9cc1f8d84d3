-- Somebody who joins a space gets its older rows on each device, though those are behind its position: they stand at a position of
-- their own, which is noted for the device when it first asks with that space (sync_publish). One that comes without a space gives it up,
-- so that whatever it missed meanwhile comes when it is back. And what compaction removed from the log no longer stands in sync_late.
SET LOCAL ROLE mana_owner;
CREATE TABLE mana_ai.sync_devices (
  user_id text NOT NULL,
  client_id text NOT NULL,
  joined jsonb NOT NULL DEFAULT '{}',  -- by shared space, where its older rows stand, in µs since the epoch; 0: there were none to tell
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, client_id));
CREATE INDEX sync_late_change ON mana_ai.sync_late (change_id);

ALTER TABLE mana_ai.sync_devices ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.sync_devices FORCE ROW LEVEL SECURITY;
CREATE POLICY router_notes ON mana_ai.sync_devices TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON mana_ai.sync_devices FOR SELECT TO mana_owner USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON mana_ai.sync_devices TO mana_router;
CREATE POLICY compactor_forgets ON mana_ai.sync_late TO mana_compactor USING (true);
GRANT SELECT (change_id), DELETE ON mana_ai.sync_late TO mana_compactor;
RESET ROLE;

SET LOCAL ROLE mana_router;
DROP FUNCTION IF EXISTS mana_ai.sync_publish(text, text[], timestamptz);
RESET ROLE;
