-- Who may do what with the tables of 0001: policies, grants, triggers, and what operators may see. Row security is enabled and
-- forced on every table that holds a user's rows. Grants on functions stand in each function's own file.
GRANT USAGE ON SCHEMA mana_ai TO mana_router, mana_fleet, mana_supervisor, mana_agent, mana_keys, mana_gateway, mana_janitor, mana_issuer;

SET LOCAL ROLE mana_owner;

-- An installation of the original service may have forced row security already; an UPDATE under FORCE touches no row, silently.
ALTER TABLE mana_ai.mission_snapshots NO FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.agent_snapshots NO FORCE ROW LEVEL SECURITY;
UPDATE mana_ai.mission_snapshots SET bucket = mana_ai.bucket_of(user_id);
UPDATE mana_ai.agent_snapshots SET bucket = mana_ai.bucket_of(user_id);

-- The original's own policy was for everybody; ours name who they are for.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_policy WHERE polrelid = 'mana_ai.decrypt_audit'::regclass AND polname = 'decrypt_audit_user_scope') THEN
    DROP POLICY decrypt_audit_user_scope ON mana_ai.decrypt_audit;
  END IF;
END $$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'decrypt_audit', 'mission_research_jobs', 'token_usage',
      'change_feed', 'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds', 'journal', 'limits',
      'key_releases', 'vault_key_checks', 'sealed_copies', 'owner_keys', 'owner_key_changes', 'copy_requests'] LOOP
    EXECUTE format('ALTER TABLE mana_ai.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE mana_ai.%I FORCE ROW LEVEL SECURITY', name);
  END LOOP;
  -- Functions owned by mana_owner see the rows of the user they act for, nobody else's.
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'decrypt_audit', 'mission_research_jobs', 'token_usage',
      'change_feed', 'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds', 'journal',
      'key_releases', 'sealed_copies', 'owner_keys', 'owner_key_changes', 'copy_requests'] LOOP
    EXECUTE format('CREATE POLICY owner_acts_for_user ON mana_ai.%I TO mana_owner
                    USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()))', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'decrypt_audit', 'mission_research_jobs', 'token_usage',
      'change_feed', 'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds', 'journal'] LOOP
    EXECUTE format('CREATE POLICY gateway_reads_as_user ON mana_ai.%I TO mana_gateway
                    USING (user_id = current_setting(''app.current_user_id'', true))', name);
    EXECUTE format('CREATE POLICY agent_reads ON mana_ai.%I FOR SELECT TO mana_agent USING (true)', name);
    EXECUTE format('CREATE POLICY agent_within_capability ON mana_ai.%I AS RESTRICTIVE TO mana_agent
                    USING (user_id = (SELECT mana_ai.capability_user()))', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['key_releases', 'sealed_copies', 'owner_keys', 'owner_key_changes'] LOOP
    EXECUTE format('CREATE POLICY gateway_reads_as_user ON mana_ai.%I FOR SELECT TO mana_gateway
                    USING (user_id = current_setting(''app.current_user_id'', true))', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['sealed_copies', 'owner_keys'] LOOP
    EXECUTE format('CREATE POLICY agent_within_capability ON mana_ai.%I AS RESTRICTIVE TO mana_agent
                    USING (user_id = (SELECT mana_ai.capability_user()))', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'mission_research_jobs', 'token_usage', 'change_feed',
      'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds'] LOOP
    EXECUTE format('CREATE POLICY supervisor_schedules ON mana_ai.%I TO mana_supervisor USING (true) WITH CHECK (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'runs', 'token_usage', 'token_holds', 'quarantine', 'decisions'] LOOP
    EXECUTE format('CREATE POLICY fleet_reads ON mana_ai.%I FOR SELECT TO mana_fleet USING (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['token_usage', 'decisions', 'runs', 'run_requests', 'decrypt_audit', 'quarantine', 'key_releases',
      'sealed_copies', 'owner_key_changes', 'copy_requests'] LOOP
    EXECUTE format('CREATE POLICY janitor_prunes ON mana_ai.%I TO mana_janitor USING (true)', name);
  END LOOP;
END $$;
CREATE POLICY router_moves ON mana_ai.change_feed TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY router_compares ON mana_ai.mission_snapshots FOR SELECT TO mana_router USING (true);
CREATE POLICY router_compares ON mana_ai.agent_snapshots FOR SELECT TO mana_router USING (true);
CREATE POLICY router_takes ON mana_ai.copy_requests TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY owner_acts_for_user ON mana_ai.limits TO mana_owner
  USING (user_id IN ('', (SELECT mana_ai.acting_user()))) WITH CHECK (user_id IN ('', (SELECT mana_ai.acting_user())));
CREATE POLICY fleet_reads ON mana_ai.limits FOR SELECT TO mana_gateway, mana_supervisor, mana_fleet USING (true);
CREATE POLICY issuer_acts_for_user ON mana_ai.vault_key_checks TO mana_issuer
  USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE POLICY agent_reads_own_missions ON mana_ai.sealed_copies FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()) AND expires_at > clock_timestamp() AND EXISTS (
         SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = sealed_copies.user_id AND s.mission_id = sealed_copies.mission_id
            AND s.agent_id = (SELECT mana_ai.capability_agent())));
CREATE POLICY agent_reads_own ON mana_ai.owner_keys FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));

CREATE TRIGGER forget_revoked AFTER UPDATE OF record, hidden ON mana_ai.mission_snapshots FOR EACH ROW
  WHEN (jsonb_typeof(OLD.record -> 'grant') IS NOT DISTINCT FROM 'object'
        AND (NEW.hidden OR jsonb_typeof(NEW.record -> 'grant') IS DISTINCT FROM 'object'))
  EXECUTE FUNCTION mana_ai.forget_revoked();

RESET ROLE;

-- The log, for agents: their owner's rows of the two tables and the records their capability lists. The service's own
-- policies stay the permissive side (they ask for app.current_user_id); this one can only take away.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'public.sync_changes'::regclass AND polname = 'mana_agent_within_capability') THEN
    CREATE POLICY mana_agent_within_capability ON public.sync_changes AS RESTRICTIVE TO mana_agent
      USING ((user_id = (SELECT mana_ai.capability_user())
              OR space_id = ANY (ARRAY(SELECT jsonb_array_elements_text((SELECT mana_ai.capability()) -> 's'))))
             AND ((app_id = 'ai' AND table_name IN ('aiMissions', 'agents'))
                  OR app_id || '/' || table_name || '/' || record_id = ANY ((SELECT mana_ai.capability_scope())::text[])
                  OR app_id || '/' || table_name || '/*' = ANY ((SELECT mana_ai.capability_scope())::text[])));
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.sync_changes'::regclass AND tgname = 'mana_ai_feed') THEN
    CREATE TRIGGER mana_ai_feed AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE AS added
      FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.feed_changes();
  END IF;
END $$;
GRANT SELECT ON public.sync_changes TO mana_agent;

REVOKE ALL ON ALL TABLES IN SCHEMA mana_ai FROM PUBLIC;

GRANT SELECT, INSERT, DELETE ON mana_ai.change_feed TO mana_router;
GRANT SELECT (user_id, mission_id, folded_count, folded_digest) ON mana_ai.mission_snapshots TO mana_router;
GRANT SELECT (user_id, agent_id, folded_count, folded_digest) ON mana_ai.agent_snapshots TO mana_router;
GRANT SELECT, UPDATE ON mana_ai.copy_requests TO mana_router;

GRANT SELECT, INSERT, UPDATE, DELETE ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.quarantine, mana_ai.shards TO mana_supervisor;
GRANT SELECT ON mana_ai.install, mana_ai.user_settings, mana_ai.run_requests, mana_ai.runs, mana_ai.change_feed, mana_ai.token_usage,
  mana_ai.token_holds, mana_ai.ledger, mana_ai.decisions, mana_ai.mission_research_jobs TO mana_supervisor;
GRANT UPDATE (lease_until, state, reason, closed_at) ON mana_ai.runs TO mana_supervisor;
GRANT UPDATE (closed_at) ON mana_ai.run_requests TO mana_supervisor;
GRANT INSERT ON mana_ai.decisions, mana_ai.token_usage TO mana_supervisor;
GRANT DELETE ON mana_ai.token_holds TO mana_supervisor;
GRANT USAGE ON SEQUENCE mana_ai.snapshot_version, mana_ai.token_usage_id_seq TO mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.mission_research_jobs, mana_ai.run_requests, mana_ai.install,
  mana_ai.sealed_copies TO mana_agent;

-- Operators see ids, states, times, costs and reasons; the records themselves are the owner's.
CREATE VIEW mana_ai.fleet_missions AS
  SELECT user_id, mission_id, agent_id, state, next_run_at, wake_at, complete, hidden, readable, problems, version,
         decision, reason, decided_at FROM mana_ai.mission_snapshots;
CREATE VIEW mana_ai.fleet_agents AS
  SELECT a.user_id, a.agent_id, a.state, a.max_tokens_per_day, a.max_concurrent, a.complete, a.hidden, a.problems, a.version,
         coalesce((SELECT sum(t.tokens_used) FROM mana_ai.token_usage AS t WHERE t.user_id = a.user_id AND t.agent_id = a.agent_id
                      AND t.ts > clock_timestamp() - interval '24 hours'), 0)::bigint AS used_24h,
         coalesce((SELECT sum(h.tokens) FROM mana_ai.token_holds AS h WHERE h.user_id = a.user_id AND h.agent_id = a.agent_id), 0)::bigint AS held,
         (SELECT count(*) FROM mana_ai.runs AS r WHERE r.user_id = a.user_id AND r.agent_id = a.agent_id AND r.state = 'open') AS running
    FROM mana_ai.agent_snapshots AS a;
CREATE VIEW mana_ai.fleet_runs AS
  SELECT run_id, user_id, agent_id, mission_id, due_at, state, requested, attempt, failures, reason, waiting_for, not_before, lease_until,
         iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at,
         stop_reason, duplicate_calls, dropped_calls, refused_calls, mana_ai.receipt(answers) AS receipt
    FROM mana_ai.runs;
CREATE VIEW mana_ai.fleet_quarantine AS SELECT change_id, user_id, table_name, record_id, reason, seen_at FROM mana_ai.quarantine;
CREATE VIEW mana_ai.fleet_decisions AS SELECT id, user_id, mission_id, agent_id, due_at, decision, reason, at FROM mana_ai.decisions;
GRANT SELECT (user_id, mission_id, agent_id, state, next_run_at, wake_at, complete, hidden, readable, problems, version, decision, reason, decided_at)
  ON mana_ai.mission_snapshots TO mana_fleet;
GRANT SELECT (user_id, agent_id, state, max_tokens_per_day, max_concurrent, complete, hidden, problems, version) ON mana_ai.agent_snapshots TO mana_fleet;
GRANT SELECT ON mana_ai.runs, mana_ai.token_usage, mana_ai.token_holds, mana_ai.quarantine, mana_ai.decisions TO mana_fleet;
GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;  -- only until its views are handed over
ALTER VIEW mana_ai.fleet_missions OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_agents OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_runs OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_quarantine OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_decisions OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT SELECT ON mana_ai.fleet_missions, mana_ai.fleet_agents, mana_ai.fleet_runs, mana_ai.fleet_quarantine, mana_ai.fleet_decisions
  TO mana_gateway, mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.decrypt_audit, mana_ai.run_requests, mana_ai.quarantine, mana_ai.key_releases,
  mana_ai.owner_key_changes TO mana_gateway;
GRANT SELECT ON mana_ai.owner_keys TO mana_agent, mana_gateway;
GRANT SELECT (user_id, mission_id, table_name, record_id, source, written_at) ON mana_ai.sealed_copies TO mana_gateway;
GRANT SELECT ON mana_ai.shards, mana_ai.install TO mana_gateway;
GRANT SELECT ON mana_ai.limits TO mana_gateway, mana_supervisor, mana_fleet;
GRANT SELECT, DELETE ON mana_ai.budget_wakes TO mana_supervisor;
GRANT INSERT, UPDATE ON mana_ai.user_settings TO mana_gateway;

GRANT SELECT, INSERT, UPDATE ON mana_ai.vault_key_checks TO mana_issuer;

GRANT SELECT (ts), DELETE ON mana_ai.token_usage, mana_ai.decrypt_audit, mana_ai.key_releases TO mana_janitor;
GRANT SELECT (at), DELETE ON mana_ai.decisions, mana_ai.owner_key_changes TO mana_janitor;
GRANT SELECT (closed_at), DELETE ON mana_ai.runs, mana_ai.run_requests TO mana_janitor;
GRANT SELECT (seen_at), DELETE ON mana_ai.quarantine TO mana_janitor;
GRANT SELECT (expires_at), DELETE ON mana_ai.sealed_copies TO mana_janitor;
GRANT SELECT (asked_at), DELETE ON mana_ai.copy_requests TO mana_janitor;
