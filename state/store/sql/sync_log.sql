-- The log as a foreign sync service writes it, as the login that owns it, in one user's place.

-- act_as --
SELECT set_config('app.current_user_id', $1, true), set_config('app.current_user_space_ids', '', true)

-- push --
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data, field_meta, client_id, actor, origin, space_id)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9::jsonb, $10, $11)
