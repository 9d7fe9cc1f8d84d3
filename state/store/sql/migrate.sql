-- Statements of migrate.py. Words in braces are put in by it: names and digests of ours, never a value from outside.

-- ledger --
-- Where the steps done and the functions put are written down; its lock makes migrations take turns. No advisory lock: any
-- login, an agent's too, could hold that one for ever.
CREATE SCHEMA IF NOT EXISTS mana_ai;
ALTER SCHEMA mana_ai OWNER TO mana_owner;
CREATE TABLE IF NOT EXISTS mana_ai.migrations (
  name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE mana_ai.migrations OWNER TO mana_owner;
GRANT SELECT ON mana_ai.migrations TO mana_supervisor, mana_gateway;
CREATE TABLE IF NOT EXISTS mana_ai.function_texts (
  name text PRIMARY KEY,
  text_digest text NOT NULL,  -- of the file
  made_digest text NOT NULL,  -- of what the database made of it
  put_at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE mana_ai.function_texts OWNER TO mana_owner;
GRANT SELECT ON mana_ai.function_texts TO mana_supervisor, mana_gateway;

-- adopt_earlier --
-- The tables of a database that an earlier release made are those of the baseline, once that release was done with them.
DO $$
DECLARE
  steps text[] := ARRAY['0001_log', '0002_tables', '0003_capability', '0004_feed', '0005_runs', '0006_access', '0007_budgets',
    '0008_control', '0009_receipts', '0010_keys', '0011_vault', '0012_sealed_copies', '0013_owner_keys', '0014_copy_requests',
    '0015_capability_rotation', '0016_agent_bounds', '0017_room_and_skips', '0018_long_capabilities'];
  done bigint := (SELECT count(*) FROM mana_ai.migrations WHERE name = ANY (steps));
BEGIN
  IF done = cardinality(steps) THEN
    INSERT INTO mana_ai.migrations (name) VALUES ('0001_baseline_tables'), ('0002_baseline_access') ON CONFLICT DO NOTHING;
  ELSIF done > 0 THEN
    RAISE EXCEPTION 'this database has only % of the % steps before the baseline:'
      ' run `mana migrate` of the release that made it, then this one', done, cardinality(steps);
  END IF;
END $$;

-- functions_made --
-- Each function as the database has it: definition, owner, grants and comment.
SELECT p.proname::text AS name, encode(sha256(convert_to(string_agg(concat_ws(E'\n',
         pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl::text, obj_description(p.oid, 'pg_proc')), '' ORDER BY p.oid),
         'UTF8')), 'hex') AS digest
  FROM pg_proc AS p WHERE p.pronamespace = 'mana_ai'::regnamespace AND p.prokind IN ('f', 'p') GROUP BY p.proname

-- functions_put --
-- The functions that are as they were put last, with the text they were put from.
SELECT t.name, t.text_digest FROM mana_ai.function_texts AS t JOIN ({functions_made}) AS made ON made.name = t.name
 WHERE made.digest = t.made_digest

-- put_function --
-- Its text says all that is granted, so what was granted before goes first. With other arguments or another result it is
-- a new function, and the old one goes too.
DO $put$
DECLARE
  wanted text := $text${text}$text$;
  grantee text;
  old regprocedure;
BEGIN
  FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
                   FROM pg_proc AS p, aclexplode(p.proacl) AS a
                  WHERE p.oid = to_regproc('mana_ai.{name}') AND a.grantee <> p.proowner LOOP
    EXECUTE 'REVOKE ALL ON FUNCTION mana_ai.{name} FROM ' || grantee;
  END LOOP;
  BEGIN
    EXECUTE wanted;
  EXCEPTION WHEN invalid_function_definition OR ambiguous_function THEN
    FOR old IN SELECT oid FROM pg_proc WHERE pronamespace = 'mana_ai'::regnamespace AND proname = '{name}' LOOP
      EXECUTE 'DROP FUNCTION ' || old;
    END LOOP;
    EXECUTE wanted;
  END;
  REVOKE ALL ON FUNCTION mana_ai.{name} FROM PUBLIC;
END $put$;

-- note_functions --
INSERT INTO mana_ai.function_texts (name, text_digest, made_digest)
SELECT made.name, wanted.digest, made.digest
  FROM ({functions_made}) AS made JOIN (VALUES {digests}) AS wanted (name, digest) ON wanted.name = made.name
    ON CONFLICT (name) DO UPDATE
   SET text_digest = excluded.text_digest, made_digest = excluded.made_digest, put_at = clock_timestamp();

-- drop_functions --
-- Functions of ours that no file has any more.
DO $$
DECLARE
  old regprocedure;
BEGIN
  FOR old IN SELECT oid FROM pg_proc WHERE pronamespace = 'mana_ai'::regnamespace
                AND proowner::regrole::text IN ({owners}) AND NOT proname IN ({names}) LOOP
    EXECUTE 'DROP FUNCTION ' || old;
  END LOOP;
END $$;
DELETE FROM mana_ai.function_texts WHERE NOT name IN ({names});

-- secrets --
-- A signing secret per audience where one lacks: 244 random bits that never leave the database.
SELECT mana_ai.add_capability_secret(a.audience, substr(md5(gen_random_uuid()::text), 1, 8),
         uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
  FROM unnest(ARRAY['db', 'keys']) AS a (audience)
 WHERE NOT EXISTS (SELECT FROM mana_ai.capability_secrets AS s WHERE s.audience = a.audience);
