-- People of an installation without an auth service of its own: who they are, how they sign in, which spaces they share. Of
-- whatever lets somebody in only the SHA-256 is here. The gateway's login keeps these rows; agents and the other logins have
-- no right to any of them.
SET LOCAL ROLE mana_owner;

CREATE TABLE mana_ai.people (
  user_id text PRIMARY KEY,
  display_name text NOT NULL,
  added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  removed_at timestamptz,  -- the row stays: a name that was somebody's is never a stranger's, since their records are in the log
  CONSTRAINT people_have_names CHECK (user_id ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$' AND length(display_name) BETWEEN 1 AND 100)
);

CREATE TABLE mana_ai.sign_in_links (
  link_hash bytea PRIMARY KEY,
  user_id text NOT NULL REFERENCES mana_ai.people,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  CONSTRAINT links_are_hashed CHECK (length(link_hash) = 32)
);
CREATE INDEX sign_in_links_of_person ON mana_ai.sign_in_links (user_id);
CREATE INDEX sign_in_links_by_end ON mana_ai.sign_in_links (expires_at);

-- One row per browser or client that signed in: a browser's has the hash of its cookie, a client's the secret that its refresh
-- tokens are chained with. The secret makes the next token of the last one and nothing without it.
CREATE TABLE mana_ai.sign_ins (
  sign_in_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL REFERENCES mana_ai.people,
  cookie_hash bytea UNIQUE,
  chain_secret bytea,
  address text,
  user_agent text,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  ended_by text,
  CONSTRAINT sign_ins_have_one_way CHECK ((cookie_hash IS NULL) <> (chain_secret IS NULL)),
  CONSTRAINT cookies_are_hashed CHECK (length(cookie_hash) = 32)
);
CREATE INDEX sign_ins_of_person ON mana_ai.sign_ins (user_id) WHERE ended_at IS NULL;
CREATE INDEX sign_ins_by_end ON mana_ai.sign_ins (expires_at);

CREATE TABLE mana_ai.refresh_tokens (
  token_hash bytea PRIMARY KEY,
  sign_in_id uuid NOT NULL REFERENCES mana_ai.sign_ins ON DELETE CASCADE,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  replaced_at timestamptz,
  CONSTRAINT refresh_tokens_are_hashed CHECK (length(token_hash) = 32)
);
CREATE INDEX refresh_tokens_of_sign_in ON mana_ai.refresh_tokens (sign_in_id);

CREATE TABLE mana_ai.personal_tokens (
  token_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id text NOT NULL REFERENCES mana_ai.people,
  name text NOT NULL,
  token_hash bytea NOT NULL UNIQUE,
  scopes text[] NOT NULL,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  revoked_at timestamptz,
  CONSTRAINT personal_tokens_are_hashed CHECK (length(token_hash) = 32),
  CONSTRAINT personal_tokens_have_names CHECK (length(name) BETWEEN 1 AND 100),
  CONSTRAINT personal_tokens_have_scopes CHECK (scopes <> '{}')
);
CREATE UNIQUE INDEX personal_tokens_by_name ON mana_ai.personal_tokens (user_id, name) WHERE revoked_at IS NULL;
CREATE INDEX personal_tokens_by_end ON mana_ai.personal_tokens (expires_at);

CREATE TABLE mana_ai.spaces (
  space_id text PRIMARY KEY,
  name text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT spaces_have_names CHECK (length(name) BETWEEN 1 AND 100),
  CONSTRAINT spaces_are_shared CHECK (space_id <> '' AND NOT starts_with(space_id, '_personal:') AND space_id NOT LIKE '%,%')
);

CREATE TABLE mana_ai.space_members (
  space_id text NOT NULL REFERENCES mana_ai.spaces,
  user_id text NOT NULL REFERENCES mana_ai.people,
  added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (space_id, user_id)
);
CREATE INDEX space_members_by_person ON mana_ai.space_members (user_id);

-- What was done about people, by whom and from where: nobody changes it, the janitor prunes it.
CREATE TABLE mana_ai.people_trail (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id text NOT NULL,
  action text NOT NULL,
  detail text,
  done_by text NOT NULL,
  address text,
  user_agent text,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX people_trail_of_person ON mana_ai.people_trail (user_id, at DESC, id DESC);
CREATE INDEX people_trail_by_age ON mana_ai.people_trail (at);

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['people', 'sign_in_links', 'sign_ins', 'refresh_tokens', 'personal_tokens', 'spaces', 'space_members',
      'people_trail'] LOOP
    EXECUTE format('ALTER TABLE mana_ai.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE mana_ai.%I FORCE ROW LEVEL SECURITY', name);
    -- A token is looked up before anybody knows whose it is, so there is nobody to act for yet.
    EXECUTE format('CREATE POLICY gateway_keeps ON mana_ai.%I TO mana_gateway USING (true) WITH CHECK (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['sign_in_links', 'sign_ins', 'refresh_tokens', 'personal_tokens', 'people_trail'] LOOP
    EXECUTE format('CREATE POLICY janitor_prunes ON mana_ai.%I TO mana_janitor USING (true)', name);
  END LOOP;
  -- Functions of ours ask who shares a space.
  FOREACH name IN ARRAY ARRAY['spaces', 'space_members'] LOOP
    EXECUTE format('CREATE POLICY owner_compares ON mana_ai.%I FOR SELECT TO mana_owner USING (true)', name);
  END LOOP;
END $$;

GRANT SELECT, INSERT ON mana_ai.people, mana_ai.sign_in_links, mana_ai.sign_ins, mana_ai.refresh_tokens, mana_ai.personal_tokens,
  mana_ai.spaces, mana_ai.space_members, mana_ai.people_trail TO mana_gateway;
GRANT UPDATE (display_name, added_at, removed_at) ON mana_ai.people TO mana_gateway;
GRANT UPDATE (used_at, expires_at, ended_at, ended_by) ON mana_ai.sign_ins TO mana_gateway;
GRANT UPDATE (replaced_at) ON mana_ai.refresh_tokens TO mana_gateway;
GRANT UPDATE (used_at, revoked_at) ON mana_ai.personal_tokens TO mana_gateway;
GRANT DELETE ON mana_ai.sign_in_links, mana_ai.space_members TO mana_gateway;
GRANT SELECT (expires_at), DELETE ON mana_ai.sign_in_links, mana_ai.sign_ins, mana_ai.personal_tokens TO mana_janitor;
GRANT SELECT (at), DELETE ON mana_ai.people_trail TO mana_janitor;

RESET ROLE;
