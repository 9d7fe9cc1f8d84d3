-- Browsers of people whom the deployment's auth service knows: pages for installations where people do not sign in here.
SET ROLE mana_owner;

-- A row begins with a link, which an access token of the auth service asked for; using it up gives the browser a cookie.
CREATE TABLE mana_ai.visitors (
  sign_in_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL,
  spaces text[] NOT NULL,  -- shared ones, as the token said
  link_hash bytea UNIQUE,
  cookie_hash bytea UNIQUE,
  address text,
  user_agent text,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT visitors_have_one_way CHECK ((link_hash IS NULL) <> (cookie_hash IS NULL)),
  CONSTRAINT visitors_are_hashed CHECK (length(coalesce(link_hash, cookie_hash)) = 32)
);
CREATE INDEX visitors_of_person ON mana_ai.visitors (user_id) WHERE ended_at IS NULL;
CREATE INDEX visitors_by_end ON mana_ai.visitors (expires_at);

ALTER TABLE mana_ai.visitors ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.visitors FORCE ROW LEVEL SECURITY;
-- A cookie is looked up before anybody knows whose it is, so there is nobody to act for yet.
CREATE POLICY gateway_keeps ON mana_ai.visitors TO mana_gateway USING (true) WITH CHECK (true);
CREATE POLICY janitor_prunes ON mana_ai.visitors TO mana_janitor USING (true);

GRANT SELECT, INSERT ON mana_ai.visitors TO mana_gateway;
GRANT UPDATE (link_hash, cookie_hash, address, user_agent, used_at, expires_at, ended_at) ON mana_ai.visitors TO mana_gateway;
GRANT SELECT (expires_at), DELETE ON mana_ai.visitors TO mana_janitor;

RESET ROLE;
