-- The log as the sync service uses it, as the login that owns it, in one user's place.

-- act_as --
SELECT set_config('app.current_user_id', $1, true), set_config('app.current_user_space_ids', '', true)

-- push --
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, actor, origin, space_id)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9::jsonb, $10, $11)

-- pull --
SELECT id::text, app_id, table_name, record_id, op, data::text, field_meta::text, client_id, created_at, schema_version, actor::text,
       origin, space_id
  FROM public.sync_changes
 WHERE user_id = :user AND app_id = :app AND table_name = :table AND created_at > :since AND client_id <> :client
 ORDER BY created_at, id
