-- Operators' sessions: listed, and ended for every copy of a cookie, at each door and over restarts.
SET ROLE mana_owner;

-- A session that was ended has no row; the cookie is kept as its hash.
CREATE TABLE mana_ai.operator_sessions (
  cookie_hash bytea PRIMARY KEY,
  address text,
  user_agent text,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ends_at timestamptz NOT NULL,
  CONSTRAINT operator_sessions_are_hashed CHECK (length(cookie_hash) = 32)
);
ALTER TABLE mana_ai.operator_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.operator_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY gateway_keeps ON mana_ai.operator_sessions TO mana_gateway USING (true) WITH CHECK (true);
GRANT SELECT, DELETE, INSERT (cookie_hash, address, user_agent, ends_at), UPDATE (seen_at) ON mana_ai.operator_sessions TO mana_gateway;

RESET ROLE;
