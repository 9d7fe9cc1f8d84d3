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
       || ARRAY(SELECT 'member of ' || m.roleid::regrole FROM pg_auth_members AS m WHERE m.member = r.oid
                   AND (r.rolname, m.roleid::regrole::text) <> ('mana_ender', 'mana_agent')) AS faults
  FROM pg_roles AS r WHERE r.rolname = ANY ($1)

-- planted_settings --
-- A login may change its own defaults: ours hold one setting, everything else was planted.
SELECT s.setrole::regrole || ': ' || c.setting AS planted
  FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c (setting)
 WHERE s.setrole::regrole::text = ANY ($1) AND c.setting NOT LIKE 'idle\_in\_transaction\_session\_timeout=%'

-- log_trigger --
SELECT t.tgenabled::text AS enabled, t.tgfoid = (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('mana_ai')
                                                          AND p.proname = $2) AS is_ours
  FROM pg_trigger AS t WHERE t.tgrelid = to_regclass('public.sync_changes') AND t.tgname = $1

-- log_size --
-- Rows as the last analysis counted them; who owns the log sees none by himself.
SELECT pg_total_relation_size(c.oid) AS bytes, greatest(c.reltuples, 0)::bigint AS rows, coalesce(s.n_tup_ins, 0) AS written,
       (SELECT d.stats_reset FROM pg_stat_database AS d WHERE d.datname = current_database()) AS since
  FROM pg_class AS c LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid WHERE c.oid = to_regclass('public.sync_changes')

-- functions --
SELECT p.proname AS name, p.prosrc AS source, p.prosecdef AS is_definer, p.proowner::regrole::text AS owner,
       'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}')) AS is_fixed,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) AS is_public
  FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('mana_ai')

-- tables --
-- Tables that hold people's rows.
SELECT c.oid::regclass::text AS name, c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced
  FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND EXISTS (
       SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped)
   AND (c.relnamespace = to_regnamespace('mana_ai') OR c.oid = to_regclass('public.sync_changes'))

-- log_policies --
SELECT polname AS name FROM pg_policy WHERE polrelid = to_regclass('public.sync_changes')

-- agent_relations --
-- Whatever an agent's login may read or change, by its own privileges, PUBLIC's or a membership, in any schema it may enter.
-- Temporary ones are gone with their session.
SELECT n.nspname || '.' || c.relname AS name, c.relkind::text AS kind, c.relowner::regrole::text AS owner,
       c.relowner = g.oid AS is_agents_own, c.oid = to_regclass('public.sync_changes') IS TRUE AS is_the_log,
       c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced,
       EXISTS (SELECT FROM unnest(c.reloptions) AS o WHERE o ~ '^security_invoker=(true|on|yes|1)$') AS is_invokers,
       r.is_read, w.writes,
       ARRAY(SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy AS p
              WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd IN ('*', 'r') AND p.polroles && ARRAY[0, g.oid]::oid[]
                AND EXISTS (SELECT FROM pg_depend AS d JOIN pg_proc AS f ON f.oid = d.refobjid
                             WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                               AND f.pronamespace = to_regnamespace('mana_ai') AND starts_with(f.proname::text, 'capability'))) AS fences
  FROM pg_roles AS g CROSS JOIN pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(g.oid, c.oid, 'SELECT')
                                 ELSE has_any_column_privilege(g.oid, c.oid, 'SELECT') END) AS r (is_read)
 CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'S' THEN
     array_remove(ARRAY[CASE WHEN has_sequence_privilege(g.oid, c.oid, 'USAGE') THEN 'USAGE' END,
                        CASE WHEN has_sequence_privilege(g.oid, c.oid, 'UPDATE') THEN 'UPDATE' END], NULL)
   ELSE ARRAY(SELECT x.name FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) AS x (name)
               WHERE CASE WHEN x.name IN ('INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(g.oid, c.oid, x.name)
                          WHEN x.name <> 'MAINTAIN' OR current_setting('server_version_num')::int >= 170000
                          THEN has_table_privilege(g.oid, c.oid, x.name) END) END) AS w (writes)
 WHERE g.rolname = 'mana_agent' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast_)?temp_'
   AND has_schema_privilege(g.oid, n.oid, 'USAGE') AND (r.is_read OR w.writes <> '{}')
 ORDER BY 1

-- agent_functions --
-- All functions of ours, and whatever else an agent's login may call. An extension is trusted when one need not be superuser
-- to install it.
SELECT n.nspname AS schema, p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments, l.lanname AS language,
       l.lanpltrusted OR l.lanname = 'sql' AS is_trusted_language, p.prosecdef AS is_definer, p.prosqlbody IS NOT NULL AS is_parsed,
       p.proowner::regrole::text AS owner, p.proowner = g.oid AS is_agents_own,
       coalesce((SELECT s FROM unnest(p.proconfig) AS s WHERE starts_with(s, 'search_path=')), '') AS search_path,
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS body,
       EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                  AND d.refclassid = 'pg_class'::regclass) AS touches_relations,
       has_schema_privilege(g.oid, n.oid, 'USAGE') AND has_function_privilege(g.oid, p.oid, 'EXECUTE') AS is_agents,
       e.is_trusted AS trusted_extension
  FROM pg_roles AS g CROSS JOIN pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
  LEFT JOIN LATERAL (
       SELECT coalesce((SELECT v.trusted FROM pg_available_extension_versions AS v WHERE v.name = x.extname AND v.version = x.extversion),
                       false) AS is_trusted
         FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS e ON true
 WHERE g.rolname = 'mana_agent' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast_)?temp_'
   AND (n.nspname = 'mana_ai' OR has_schema_privilege(g.oid, n.oid, 'USAGE') AND has_function_privilege(g.oid, p.oid, 'EXECUTE'))
 ORDER BY 1, 2, 3

-- agent_odds --
-- What else it could make, read or change. TEMPORARY is everybody's on a database; our functions look into pg_temp last.
SELECT 'may create in schema ' || n.nspname AS fault FROM pg_roles AS g CROSS JOIN pg_namespace AS n
 WHERE g.rolname = 'mana_agent' AND n.nspname !~ '^pg_(toast_)?temp_' AND has_schema_privilege(g.oid, n.oid, 'CREATE')
UNION ALL
SELECT 'may create schemas in this database' WHERE has_database_privilege('mana_agent', current_database(), 'CREATE')
UNION ALL
SELECT 'large object ' || o.oid FROM pg_roles AS g CROSS JOIN pg_largeobject_metadata AS o
 WHERE g.rolname = 'mana_agent' AND (o.lomowner = g.oid OR EXISTS (SELECT FROM aclexplode(o.lomacl) AS a WHERE a.grantee IN (0, g.oid)))
UNION ALL
SELECT 'foreign server ' || s.srvname FROM pg_foreign_server AS s WHERE has_server_privilege('mana_agent', s.oid, 'USAGE')
UNION ALL
SELECT 'untrusted language ' || l.lanname FROM pg_language AS l
 WHERE l.lanispl AND NOT l.lanpltrusted AND has_language_privilege('mana_agent', l.oid, 'USAGE')
UNION ALL
SELECT 'may call ' || p.oid::regprocedure FROM pg_proc AS p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('mana_agent', p.oid, 'EXECUTE')
   AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_stat_file', 'pg_ls_dir', 'pg_ls_logdir', 'pg_ls_waldir', 'lo_import', 'lo_export',
                     'pg_reload_conf', 'pg_rotate_logfile', 'pg_stat_reset', 'pg_replication_origin_create')
UNION ALL
SELECT 'gets ' || a.privilege_type || ' on what ' || d.defaclrole::regrole || ' will make' FROM pg_roles AS g CROSS JOIN pg_default_acl AS d
 CROSS JOIN aclexplode(d.defaclacl) AS a
 WHERE g.rolname = 'mana_agent' AND (a.grantee = g.oid OR a.grantee = 0 AND d.defaclobjtype IN ('r', 'S', 'n'))

-- agent_parameters --
-- Settings it may change though only a superuser may; since Postgres 15.
SELECT 'may set ' || p.parname AS fault FROM pg_roles AS g CROSS JOIN pg_parameter_acl AS p CROSS JOIN aclexplode(p.paracl) AS a
 WHERE g.rolname = 'mana_agent' AND a.grantee IN (0, g.oid)

-- privileges --
-- What our roles were granted by name, as "role privilege object". The auth service's schema has a check of its own.
SELECT x.grantee::regrole || ' ' || x.privilege || ' ' || x.object AS granted FROM (
  SELECT a.grantee, a.privilege_type, n.nspname || '.' || c.relname, c.relowner, n.nspname
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) AS a
  UNION ALL
  SELECT a.grantee, a.privilege_type || '(' || t.attname || ')', n.nspname || '.' || c.relname, c.relowner, n.nspname
    FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
   CROSS JOIN aclexplode(t.attacl) AS a
  UNION ALL
  SELECT a.grantee, a.privilege_type, n.nspname || '.' || p.proname, p.proowner, n.nspname
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace CROSS JOIN aclexplode(p.proacl) AS a
  UNION ALL
  SELECT a.grantee, a.privilege_type, n.nspname, n.nspowner, n.nspname FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS a
 ) AS x (grantee, privilege, object, owner, schema)
 WHERE x.grantee <> 0 AND x.grantee <> x.owner AND x.grantee::regrole::text = ANY ($1) AND x.schema <> 'auth'

-- risks --
-- Worth knowing, and somebody else's to decide.
SELECT 'prepared transactions are on: one may hold locks without a session' AS risk
 WHERE current_setting('max_prepared_transactions')::int > 0

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

-- texts --
SELECT name, text_digest FROM mana_ai.function_texts

-- signs --
SELECT mana_ai.sign_capability('doctor', 'doctor', '{}', '{}', $1, 0) IS NOT NULL

-- waiting --
-- Counting stops at $1: the answer is "too many".
SELECT (SELECT count(*) FROM (SELECT FROM mana_ai.change_feed LIMIT $1) AS f) AS fed,
       (SELECT count(*) FROM (SELECT FROM mana_ai.quarantine LIMIT $1) AS q) AS quarantined,
       (SELECT count(*) FROM (SELECT FROM mana_ai.mission_snapshots WHERE wake_at < clock_timestamp() - interval '2 minutes' LIMIT $1) AS m) AS late

-- values_logged --
-- Bound values are written with any statement that is logged, for errors too where a length is set for those. Null: hidden from us.
SELECT n.name || ' = ' || current_setting(n.name, true) AS setting
  FROM unnest(ARRAY['log_parameter_max_length_on_error']) AS n (name) WHERE current_setting(n.name, true) <> '0'
UNION ALL
SELECT s.name || ' = ' || s.setting FROM pg_settings AS s
 WHERE current_setting('log_parameter_max_length', true) <> '0'
   AND (s.name = 'log_statement' AND s.setting = 'all'
        OR s.name IN ('log_min_duration_statement', 'log_min_duration_sample') AND s.setting::int >= 0
        OR s.name = 'log_transaction_sample_rate' AND s.setting::float8 > 0)

-- end_session --
SELECT mana_ai.end_sessions(0, ARRAY[$1::int])
