-- What `mana doctor` asks the catalogue, as the log's owner; it needs no privilege on any table.

-- server --
SELECT current_setting('server_version_num')::int / 10000 AS major, current_setting('server_version') AS version,
       (SELECT r.rolname FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner
         WHERE c.oid = to_regclass('public.sync_changes') AND (r.rolsuper OR r.rolbypassrls)) AS mighty_owner,
       to_regclass('public.sync_changes') IS NOT NULL AS has_log

-- mighty_roles --
-- Which of the roles are there, and what they may that they should not.
SELECT r.rolname, array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
       CASE WHEN r.rolcreaterole THEN 'createrole' END, CASE WHEN r.rolcreatedb THEN 'createdb' END,
       CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolcanlogin <> (r.rolname = ANY ($2)) THEN
         CASE WHEN r.rolcanlogin THEN 'login' ELSE 'no login' END END], NULL)
       || ARRAY(SELECT 'member of ' || m.roleid::regrole FROM pg_auth_members AS m WHERE m.member = r.oid) AS faults
  FROM pg_roles AS r WHERE r.rolname = ANY ($1)

-- planted_settings --
-- A login may change its own defaults: ours hold one setting, everything else was planted.
SELECT s.setrole::regrole || ': ' || c.setting AS planted
  FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c (setting)
 WHERE s.setrole::regrole::text = ANY ($1) AND c.setting NOT LIKE 'idle\_in\_transaction\_session\_timeout=%'

-- feed_trigger --
SELECT t.tgenabled::text AS enabled, t.tgfoid = (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('mana_ai')
                                                          AND p.proname = 'feed_changes') AS is_ours
  FROM pg_trigger AS t WHERE t.tgrelid = to_regclass('public.sync_changes') AND t.tgname = 'mana_ai_feed'

-- functions --
SELECT p.proname AS name, p.prosrc AS source, p.prosecdef AS is_definer, p.proowner::regrole::text AS owner,
       'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}')) AS is_fixed,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) AS is_public,
       to_regrole('mana_agent') IS NOT NULL AND has_function_privilege('mana_agent', p.oid, 'EXECUTE') AS is_agents
  FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('mana_ai')

-- tables --
-- Tables that hold people's rows; an agent may read one only under a restrictive policy.
SELECT c.oid::regclass::text AS name, c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced,
       has_any_column_privilege('mana_agent', c.oid, 'SELECT') AS is_agents,
       EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd IN ('*', 'r')
                  AND p.polroles = ARRAY['mana_agent'::regrole::oid]
                  AND pg_get_expr(p.polqual, p.polrelid) LIKE '%capability_user()%') AS is_fenced
  FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND EXISTS (
       SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped)
   AND (c.relnamespace = to_regnamespace('mana_ai') OR c.oid = to_regclass('public.sync_changes'))

-- log_policies --
SELECT polname AS name FROM pg_policy WHERE polrelid = to_regclass('public.sync_changes')

-- agent_writes --
SELECT c.oid::regclass || ' ' || p.name AS what
  FROM pg_class AS c CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('TRIGGER'), ('REFERENCES')) AS p (name)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace IN (to_regnamespace('mana_ai'), to_regnamespace('public'))
   AND (has_table_privilege('mana_agent', c.oid, p.name)
        OR p.name IN ('INSERT', 'UPDATE') AND has_any_column_privilege('mana_agent', c.oid, p.name))
UNION ALL
SELECT c.oid::regclass || ' sequence' FROM pg_class AS c
 WHERE c.relkind = 'S' AND c.relnamespace IN (to_regnamespace('mana_ai'), to_regnamespace('public'))
   AND (has_sequence_privilege('mana_agent', c.oid, 'USAGE') OR has_sequence_privilege('mana_agent', c.oid, 'UPDATE'))

-- vault --
-- The auth service's two tables: what is wrong about each, looked up by name since its schema may be closed to us; unless $2, only
-- what lets others in.
SELECT w.name || ' ' || f.fault AS fault
  FROM (VALUES ('encryption_vaults', ARRAY['SELECT', 'INSERT', 'UPDATE']), ('encryption_vault_audit', ARRAY['INSERT'])) AS w (name, needs)
  LEFT JOIN pg_namespace AS n ON n.nspname = 'auth'
  LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
 CROSS JOIN LATERAL (
   SELECT 'is missing', false WHERE c.oid IS NULL
   UNION ALL SELECT 'is not forced', false WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
   UNION ALL SELECT 'cannot be found by mana_issuer', false WHERE NOT has_schema_privilege('mana_issuer', n.oid, 'USAGE')
   UNION ALL SELECT 'lacks ' || p.name || ' for mana_issuer', false FROM unnest(w.needs) AS p (name) WHERE NOT has_table_privilege('mana_issuer', c.oid, p.name)
   UNION ALL SELECT 'may be deleted from by mana_issuer', true WHERE has_table_privilege('mana_issuer', c.oid, 'DELETE')
   UNION ALL SELECT 'can be read by ' || r.rolname, true FROM pg_roles AS r WHERE r.rolname = ANY ($1)
      AND (has_any_column_privilege(r.oid, c.oid, 'SELECT') OR has_any_column_privilege(r.oid, c.oid, 'UPDATE'))) AS f (fault, lets_in)
 WHERE $2 OR f.lets_in

-- hold_router --
GRANT mana_router TO CURRENT_USER

-- probe --
-- Rolled back always: would a push be fed, and does the router see it, and no other app's row?
INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, client_id)
SELECT app, CASE app WHEN 'ai' THEN 'aiMissions' ELSE 'notes' END, $1, $1, 'delete', 'mana-doctor'
  FROM unnest(ARRAY['ai', 'notes']) AS app

-- probed --
SELECT (SELECT count(*) FROM mana_ai.router_log WHERE record_id = $1 AND user_id = $1 AND app_id = 'ai'
           AND table_name = 'aiMissions') AS seen,
       (SELECT count(*) FROM public.sync_changes WHERE record_id = $1 AND user_id = $1 AND app_id <> 'ai') AS too_much,
       (SELECT count(*) FROM mana_ai.change_feed WHERE record_id = $1) AS fed

-- written_lately --
-- Plans that stand in the log under our client id: (user, iteration id) of the last hour.
SELECT user_id, coalesce(actor ->> 'iterationId', '') AS iteration_id FROM mana_ai.router_log
 WHERE app_id = 'ai' AND table_name = 'aiMissions' AND client_id = 'mana-ai-runner' AND op = 'update'
   AND data ? 'iterations' AND created_at > clock_timestamp() - interval '1 hour'
 LIMIT 1000

-- unknown_plans --
-- As the supervisor: those of them that no run of ours made.
SELECT count(*) FROM unnest($1::text[], $2::text[]) AS k (user_id, iteration_id)
 WHERE NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = k.user_id AND r.iteration_id = k.iteration_id)

-- applied --
SELECT name FROM mana_ai.migrations ORDER BY name

-- signs --
SELECT mana_ai.sign_capability('doctor', 'doctor', '{}', '{}', $1, 0) IS NOT NULL

-- waiting --
-- Counting stops at $1: the answer is "too many".
SELECT (SELECT count(*) FROM (SELECT FROM mana_ai.change_feed LIMIT $1) AS f) AS fed,
       (SELECT count(*) FROM (SELECT FROM mana_ai.quarantine LIMIT $1) AS q) AS quarantined,
       (SELECT count(*) FROM (SELECT FROM mana_ai.mission_snapshots WHERE wake_at < clock_timestamp() - interval '2 minutes' LIMIT $1) AS m) AS late
