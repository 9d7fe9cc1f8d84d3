-- What becomes of plans. A proposal is one step of a plan, made once: its id is derived from its step. What an owner always allows
-- an agent is a standing approval. The record of a mission mirrors the states; awaits_staging says that a plan in it has steps
-- nobody has put to the owner yet, whoever wrote them there.
SET LOCAL ROLE mana_owner;

CREATE TABLE mana_ai.proposals (
  user_id text NOT NULL,
  proposal_id uuid NOT NULL,
  mission_id text NOT NULL,
  iteration_id text NOT NULL,
  step_id text NOT NULL,
  agent_id text NOT NULL,
  agent_name text NOT NULL,
  tool text NOT NULL,
  params jsonb,           -- null: sealed for the owner
  rationale text NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  state text NOT NULL DEFAULT 'pending',
  not_before timestamptz,
  edited jsonb,
  decided_by text,
  decided_at timestamptz,
  decided_address text,
  decided_client text,
  approval_id uuid,
  feedback text NOT NULL DEFAULT '',
  reason text NOT NULL DEFAULT '',
  written jsonb NOT NULL DEFAULT '[]',
  claimed_by text NOT NULL DEFAULT '',
  claimed_until timestamptz,
  PRIMARY KEY (user_id, proposal_id),
  CONSTRAINT one_proposal_per_step UNIQUE (user_id, mission_id, iteration_id, step_id),
  CONSTRAINT proposal_state_known CHECK
    (state IN ('pending', 'waiting-for-device', 'done', 'rejected', 'expired', 'refused', 'undone')),
  CONSTRAINT proposal_decider_known CHECK (decided_by IN ('user', 'standing-approval', 'auto-expire', 'device')),
  CONSTRAINT decided_with_time CHECK ((decided_by IS NULL) = (decided_at IS NULL)),
  CONSTRAINT decided_unless_pending CHECK (state = 'pending' OR decided_by IS NOT NULL));
CREATE INDEX proposals_in_order ON mana_ai.proposals (user_id, created_at DESC, proposal_id);
CREATE INDEX proposals_open ON mana_ai.proposals (user_id, expires_at) WHERE state IN ('pending', 'refused');
CREATE INDEX proposals_age ON mana_ai.proposals (decided_at) WHERE decided_at IS NOT NULL;
CREATE INDEX proposals_by_approval ON mana_ai.proposals (user_id, approval_id, decided_at) WHERE approval_id IS NOT NULL;

CREATE TABLE mana_ai.standing_approvals (
  user_id text NOT NULL,
  approval_id uuid NOT NULL,
  agent_id text NOT NULL,
  tool text,              -- one of the two
  module text,
  until timestamptz,
  per_day int,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_address text,
  created_client text,
  revoked_at timestamptz,
  PRIMARY KEY (user_id, approval_id),
  CONSTRAINT tool_or_module CHECK ((tool IS NULL) <> (module IS NULL)),
  CONSTRAINT some_a_day CHECK (per_day > 0));

ALTER TABLE mana_ai.proposals ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.proposals FORCE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.standing_approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.standing_approvals FORCE ROW LEVEL SECURITY;
CREATE POLICY gateway_acts_for_user ON mana_ai.proposals TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE POLICY gateway_acts_for_user ON mana_ai.standing_approvals TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.proposals TO mana_janitor USING (true);
GRANT SELECT, INSERT, UPDATE ON mana_ai.proposals, mana_ai.standing_approvals TO mana_gateway;
GRANT SELECT (decided_at), DELETE ON mana_ai.proposals TO mana_janitor;

ALTER TABLE mana_ai.mission_snapshots ADD COLUMN awaits_staging boolean NOT NULL GENERATED ALWAYS AS (jsonb_path_exists(record,
  '$.iterations[*] ? (@.source == "server").plan[*] ? (@.intent.kind == "toolCall" && @.status == "planned"
     && (!(exists(@.proposalId)) || @.proposalId == "" || @.proposalId == null))')) STORED;
CREATE INDEX missions_awaiting_staging ON mana_ai.mission_snapshots (user_id, mission_id) WHERE awaits_staging;

GRANT SELECT (awaits_staging) ON mana_ai.mission_snapshots TO mana_fleet;
RESET ROLE;

GRANT CREATE ON SCHEMA mana_ai TO mana_fleet;  -- only until its view is handed over
CREATE VIEW mana_ai.fleet_unstaged AS
  SELECT user_id, mission_id, version FROM mana_ai.mission_snapshots WHERE awaits_staging AND complete AND NOT hidden;
ALTER VIEW mana_ai.fleet_unstaged OWNER TO mana_fleet;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_fleet;
GRANT SELECT ON mana_ai.fleet_unstaged TO mana_gateway;
