-- Who may do what. Row security is enabled and forced on every table that holds a user's rows.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['mission_snapshots', 'agent_snapshots', 'decrypt_audit', 'mission_research_jobs', 'token_usage',
      'change_feed', 'quarantine', 'user_settings', 'runs', 'run_requests', 'decisions', 'ledger', 'token_holds', 'journal'] LOOP
    EXECUTE format('ALTER TABLE mana_ai.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE mana_ai.%I FORCE ROW LEVEL SECURITY', name);
    -- Functions owned by mana_owner see the rows of the user they act for, nobody else's.
    EXECUTE format('CREATE POLICY owner_acts_for_user ON mana_ai.%I TO mana_owner
                    USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()))', name);
    EXECUTE format('CREATE POLICY gateway_reads_as_user ON mana_ai.%I TO mana_gateway
                    USING (user_id = current_setting(''app.current_user_id'', true))', name);
    EXECUTE format('CREATE POLICY agent_reads ON mana_ai.%I FOR SELECT TO mana_agent USING (true)', name);
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
  FOREACH name IN ARRAY ARRAY['token_usage', 'decisions', 'runs', 'run_requests', 'decrypt_audit', 'quarantine'] LOOP
    EXECUTE format('CREATE POLICY janitor_prunes ON mana_ai.%I TO mana_janitor USING (true)', name);
  END LOOP;
END $$;
CREATE POLICY router_moves ON mana_ai.change_feed TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY router_compares ON mana_ai.mission_snapshots FOR SELECT TO mana_router USING (true);
CREATE POLICY router_compares ON mana_ai.agent_snapshots FOR SELECT TO mana_router USING (true);

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
END $$;
GRANT SELECT ON public.sync_changes TO mana_agent;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mana_ai FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA mana_ai FROM PUBLIC;

GRANT EXECUTE ON FUNCTION mana_ai.bucket_of(text), mana_ai.change_digest(uuid) TO mana_router, mana_supervisor, mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.is_shared(text), mana_ai.owner_of(text, text, text, text), mana_ai.record_rows(text, text, text)
  TO mana_owner;
GRANT SELECT, INSERT, DELETE ON mana_ai.change_feed TO mana_router;
GRANT SELECT (user_id, mission_id, folded_count, folded_digest) ON mana_ai.mission_snapshots TO mana_router;
GRANT SELECT (user_id, agent_id, folded_count, folded_digest) ON mana_ai.agent_snapshots TO mana_router;

GRANT SELECT, INSERT, UPDATE, DELETE ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.quarantine, mana_ai.shards TO mana_supervisor;
GRANT SELECT ON mana_ai.install, mana_ai.user_settings, mana_ai.run_requests, mana_ai.runs, mana_ai.change_feed, mana_ai.token_usage,
  mana_ai.token_holds, mana_ai.ledger, mana_ai.decisions, mana_ai.mission_research_jobs TO mana_supervisor;
GRANT UPDATE (lease_until, state, reason, closed_at) ON mana_ai.runs TO mana_supervisor;
GRANT UPDATE (closed_at) ON mana_ai.run_requests TO mana_supervisor;
GRANT INSERT ON mana_ai.decisions, mana_ai.token_usage TO mana_supervisor;
GRANT DELETE ON mana_ai.token_holds TO mana_supervisor;
GRANT USAGE ON SEQUENCE mana_ai.snapshot_version, mana_ai.token_usage_id_seq TO mana_supervisor;
GRANT EXECUTE ON FUNCTION mana_ai.take_changes(int, int, bigint, int, bigint), mana_ai.replay_records(text[], text[], text[]),
  mana_ai.reconcile(text, int, int, int), mana_ai.sign_capability(text, text, text[], text[], text, int),
  mana_ai.move_slot(text, text, timestamptz, text, text, jsonb), mana_ai.withdraw_waiting(text, uuid, text) TO mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.mission_research_jobs, mana_ai.run_requests TO mana_agent;
GRANT SELECT ON mana_ai.install TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.capability(text), mana_ai.capability_user(), mana_ai.capability_agent(), mana_ai.capability_scope(),
  mana_ai.claim(text, timestamptz, int, text, jsonb), mana_ai.renew(uuid[], int[], int),
  mana_ai.begin_call(uuid, int, int, text, bigint, int), mana_ai.end_call(uuid, int, text, text, bigint),
  mana_ai.mission_now(uuid, int), mana_ai.commit_run(uuid, int, text, jsonb, text, jsonb, timestamptz, text, int, text),
  mana_ai.withdraw_run(uuid, int, text, timestamptz), mana_ai.wait_run(uuid, int, timestamptz, text, text, boolean),
  mana_ai.heal_mission(text, bigint, jsonb, text, jsonb, text[]) TO mana_agent;

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
         iteration_id, steps, tokens, model_calls, opened_at, claimed_at, closed_at, healed_at FROM mana_ai.runs;
CREATE VIEW mana_ai.fleet_quarantine AS SELECT change_id, user_id, table_name, record_id, reason, seen_at FROM mana_ai.quarantine;
CREATE VIEW mana_ai.fleet_decisions AS SELECT id, user_id, mission_id, agent_id, due_at, decision, reason, at FROM mana_ai.decisions;
GRANT SELECT (user_id, mission_id, agent_id, state, next_run_at, wake_at, complete, hidden, readable, problems, version, decision, reason, decided_at)
  ON mana_ai.mission_snapshots TO mana_fleet;
GRANT SELECT (user_id, agent_id, state, max_tokens_per_day, max_concurrent, complete, hidden, problems, version) ON mana_ai.agent_snapshots TO mana_fleet;
GRANT SELECT ON mana_ai.runs, mana_ai.token_usage, mana_ai.token_holds, mana_ai.quarantine, mana_ai.decisions TO mana_fleet;
GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;
ALTER VIEW mana_ai.fleet_missions OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_agents OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_runs OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_quarantine OWNER TO mana_fleet;
ALTER VIEW mana_ai.fleet_decisions OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT SELECT ON mana_ai.fleet_missions, mana_ai.fleet_agents, mana_ai.fleet_runs, mana_ai.fleet_quarantine, mana_ai.fleet_decisions
  TO mana_gateway, mana_supervisor;

GRANT SELECT ON mana_ai.mission_snapshots, mana_ai.agent_snapshots, mana_ai.runs, mana_ai.decisions, mana_ai.user_settings,
  mana_ai.token_usage, mana_ai.token_holds, mana_ai.decrypt_audit, mana_ai.run_requests, mana_ai.quarantine TO mana_gateway;
GRANT SELECT ON mana_ai.shards, mana_ai.install TO mana_gateway;
GRANT INSERT, UPDATE ON mana_ai.user_settings TO mana_gateway;
GRANT EXECUTE ON FUNCTION mana_ai.request_run(text, text, text) TO mana_gateway;

GRANT SELECT (ts), DELETE ON mana_ai.token_usage, mana_ai.decrypt_audit TO mana_janitor;
GRANT SELECT (at), DELETE ON mana_ai.decisions TO mana_janitor;
GRANT SELECT (closed_at), DELETE ON mana_ai.runs, mana_ai.run_requests TO mana_janitor;
GRANT SELECT (seen_at), DELETE ON mana_ai.quarantine TO mana_janitor;
