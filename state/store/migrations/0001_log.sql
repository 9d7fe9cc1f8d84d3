-- The sync service's log. Created as the sync service would create it when absent; an existing one, also of an
-- older shape, is accepted: missing nullable columns are added, nothing is renamed (an old service may be running).
CREATE TABLE IF NOT EXISTS public.sync_changes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  app_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  user_id text NOT NULL,
  op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
  data jsonb,
  field_meta jsonb DEFAULT '{}',
  client_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  schema_version int NOT NULL DEFAULT 1,
  actor jsonb,
  origin text,
  space_id text
);

-- Each change to the shared table happens only where the catalogue lacks it: an ALTER takes an exclusive lock even
-- when it has nothing to do.
DO $$
DECLARE
  has_column text[] := ARRAY(SELECT attname::text FROM pg_attribute
                              WHERE attrelid = 'public.sync_changes'::regclass AND attnum > 0 AND NOT attisdropped);
  wanted record;
BEGIN
  FOR wanted IN SELECT * FROM (VALUES ('schema_version', 'int NOT NULL DEFAULT 1'), ('actor', 'jsonb'),
                                      ('origin', 'text'), ('space_id', 'text')) AS w (name, type) LOOP
    IF NOT wanted.name = ANY (has_column) THEN
      EXECUTE format('ALTER TABLE public.sync_changes ADD COLUMN %I %s', wanted.name, wanted.type);
    END IF;
  END LOOP;
  IF NOT ('field_meta' = ANY (has_column) OR 'field_timestamps' = ANY (has_column)) THEN
    ALTER TABLE public.sync_changes ADD COLUMN field_meta jsonb DEFAULT '{}';
  END IF;

  IF to_regclass('public.idx_sync_changes_user_app') IS NULL THEN
    CREATE INDEX idx_sync_changes_user_app ON public.sync_changes (user_id, app_id, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_table_record') IS NULL THEN
    CREATE INDEX idx_sync_changes_table_record ON public.sync_changes (table_name, record_id, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_since') IS NULL THEN
    CREATE INDEX idx_sync_changes_since ON public.sync_changes (user_id, app_id, table_name, created_at);
  END IF;
  IF to_regclass('public.idx_sync_changes_user_space_app_since') IS NULL THEN
    CREATE INDEX idx_sync_changes_user_space_app_since
        ON public.sync_changes (user_id, space_id, app_id, created_at) WHERE space_id IS NOT NULL;
  END IF;

  IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'public.sync_changes'::regclass) THEN
    ALTER TABLE public.sync_changes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE public.sync_changes FORCE ROW LEVEL SECURITY;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass
                    AND polname = 'sync_changes_user_isolation') THEN
    CREATE POLICY sync_changes_user_isolation ON public.sync_changes
      USING (user_id = current_setting('app.current_user_id', true))
      WITH CHECK (user_id = current_setting('app.current_user_id', true));
  END IF;
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass
                    AND polname = 'sync_changes_space_member_read') THEN
    CREATE POLICY sync_changes_space_member_read ON public.sync_changes FOR SELECT
      USING (space_id IS NOT NULL
             AND space_id = ANY (string_to_array(current_setting('app.current_user_space_ids', true), ',')));
  END IF;
END $$;
