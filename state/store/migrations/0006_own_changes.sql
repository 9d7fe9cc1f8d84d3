-- What an owner changes through us enters the log like any client's write. One change of a person, or of a shared space, at a time:
-- own_locks has a row for each that ever wrote. own_answers keeps what a request was answered, so that asking again changes nothing.
SET LOCAL ROLE mana_owner;
CREATE TABLE mana_ai.own_locks (
  name text PRIMARY KEY);  -- user:USER or space:SPACE

CREATE TABLE mana_ai.own_answers (
  user_id text NOT NULL,
  key text NOT NULL,
  request text NOT NULL,  -- digest of what was asked under the key
  status int,             -- null until the transaction that asked ends
  answer text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, key));
CREATE INDEX own_answers_age ON mana_ai.own_answers (at);
ALTER TABLE mana_ai.own_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.own_answers FORCE ROW LEVEL SECURITY;
CREATE POLICY gateway_acts_for_user ON mana_ai.own_answers TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true)) WITH CHECK (user_id = current_setting('app.current_user_id', true));
CREATE POLICY janitor_prunes ON mana_ai.own_answers TO mana_janitor USING (true);
GRANT SELECT, INSERT, UPDATE ON mana_ai.own_answers TO mana_gateway;
GRANT SELECT (at), DELETE ON mana_ai.own_answers TO mana_janitor;
RESET ROLE;
