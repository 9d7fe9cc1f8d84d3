-- The log can be compacted: updates that newer ones have overtaken may go. Only functions of this role delete from the log, and row
-- security holds them to updates older than a day, whatever they are asked to remove.
GRANT USAGE ON SCHEMA mana_ai TO mana_compactor;
GRANT CREATE ON SCHEMA mana_ai TO mana_compactor;  -- only until its view is handed over
DO $$
DECLARE
  stamps text := CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'public.sync_changes'::regclass
                                      AND attname = 'field_meta' AND NOT attisdropped)
                      THEN 'field_meta' ELSE 'field_timestamps' END;
BEGIN
  EXECUTE format('CREATE VIEW mana_ai.compactor_log AS SELECT id, app_id, table_name, record_id, user_id, op, data, %I AS field_meta,
                  created_at, space_id FROM public.sync_changes', stamps);
END $$;
ALTER VIEW mana_ai.compactor_log OWNER TO mana_compactor;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_compactor;

GRANT SELECT, DELETE ON public.sync_changes TO mana_compactor;
CREATE POLICY mana_compactor_reads ON public.sync_changes FOR SELECT TO mana_compactor USING (true);
CREATE POLICY mana_compactor_deletes ON public.sync_changes FOR DELETE TO mana_compactor USING (true);
CREATE POLICY mana_compactor_only ON public.sync_changes AS RESTRICTIVE FOR DELETE TO mana_compactor
  USING (op = 'update' AND created_at < clock_timestamp() - interval '1 day');

SET LOCAL ROLE mana_owner;
GRANT SELECT (user_id, mission_id, folded_count, folded_digest, heal), UPDATE (folded_count, folded_digest)
  ON mana_ai.mission_snapshots TO mana_compactor;
GRANT SELECT (user_id, agent_id, folded_count, folded_digest), UPDATE (folded_count, folded_digest)
  ON mana_ai.agent_snapshots TO mana_compactor;
GRANT SELECT (table_name, record_id) ON mana_ai.change_feed TO mana_compactor;
GRANT SELECT (change_id) ON mana_ai.quarantine TO mana_compactor;
CREATE POLICY compactor_counts ON mana_ai.mission_snapshots TO mana_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_counts ON mana_ai.agent_snapshots TO mana_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_looks ON mana_ai.change_feed FOR SELECT TO mana_compactor USING (true);
CREATE POLICY compactor_looks ON mana_ai.quarantine FOR SELECT TO mana_compactor USING (true);
RESET ROLE;
SET LOCAL ROLE mana_router;
GRANT SELECT ON mana_ai.router_log TO mana_compactor;
RESET ROLE;
