-- Break-glass: which operator opened whose texts, when and why. The row is there before a text is shown, nobody changes it, and
-- the person reads it. Looks at one record are found by its name, too.
SET ROLE mana_owner;

CREATE TABLE mana_ai.openings (
  opening_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  agent_id text NOT NULL,
  run_id uuid,
  reason text NOT NULL,
  opened_by text NOT NULL,  -- a digest of the operator's session, or the service key
  address text,
  user_agent text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ends_at timestamptz NOT NULL,
  CONSTRAINT openings_say_why CHECK (length(btrim(reason)) BETWEEN 10 AND 500),
  CONSTRAINT openings_are_short CHECK (ends_at > at AND ends_at <= at + interval '1 hour')
);
CREATE INDEX openings_of_person ON mana_ai.openings (user_id, at DESC, opening_id DESC);
CREATE INDEX openings_by_time ON mana_ai.openings (at DESC, opening_id DESC);

ALTER TABLE mana_ai.openings ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.openings FORCE ROW LEVEL SECURITY;
CREATE POLICY gateway_reads ON mana_ai.openings FOR SELECT TO mana_gateway USING (true);  -- operators see all of them
CREATE POLICY gateway_adds_as_user ON mana_ai.openings FOR INSERT TO mana_gateway
  WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.openings TO mana_janitor USING (true);

-- The time is the database's: it cannot be named.
GRANT SELECT, INSERT (user_id, agent_id, run_id, reason, opened_by, address, user_agent, ends_at) ON mana_ai.openings TO mana_gateway;
GRANT SELECT (at), DELETE ON mana_ai.openings TO mana_janitor;

-- Up to which opening a person has seen them.
CREATE TABLE mana_ai.openings_seen (
  user_id text PRIMARY KEY,
  seen_at timestamptz NOT NULL
);
ALTER TABLE mana_ai.openings_seen ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.openings_seen FORCE ROW LEVEL SECURITY;
CREATE POLICY gateway_acts_for_user ON mana_ai.openings_seen TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true))
  WITH CHECK (user_id = current_setting('app.current_user_id', true));
GRANT SELECT, INSERT, UPDATE (seen_at) ON mana_ai.openings_seen TO mana_gateway;

CREATE INDEX decrypt_audit_record ON mana_ai.decrypt_audit (user_id, table_name, record_id, ts DESC);

RESET ROLE;
