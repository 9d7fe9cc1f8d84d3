-- Sealed copies on demand: a run that misses one, or finds it stale, asks for copies; whoever has the owner's key in a vault
-- makes them. An idle tenant costs nothing. A copy says of which ciphertext it was made.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.sealed_copies
  ADD COLUMN source text CONSTRAINT sealed_copies_source CHECK (source ~ '^[0-9a-f]{64}$');  -- null: its client sent none
CREATE POLICY gateway_reads_as_user ON mana_ai.sealed_copies FOR SELECT TO mana_gateway
  USING (user_id = current_setting('app.current_user_id', true));

-- One row per mission, asked for or answered. due_at: when it may be taken, and while it is taken, the end of that lease; null
-- once it is answered.
CREATE TABLE mana_ai.copy_requests (
  user_id text NOT NULL,
  mission_id text NOT NULL,
  asked_at timestamptz NOT NULL,
  due_at timestamptz,
  for_grant text NOT NULL,  -- hash of the grant it was asked under: another one is another question
  taken uuid,
  taken_at timestamptz,
  tries int NOT NULL DEFAULT 0,  -- takings without an answer
  answer text CONSTRAINT copy_requests_answer CHECK (answer IN ('made', 'current', 'no-grant', 'grant-refused', 'grant-outdated',
    'zero-knowledge', 'no-vault', 'not-opened', 'too-large', 'failed')),
  answered_at timestamptz,
  PRIMARY KEY (user_id, mission_id));
CREATE INDEX copy_requests_due ON mana_ai.copy_requests (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX copy_requests_age ON mana_ai.copy_requests (asked_at);

ALTER TABLE mana_ai.copy_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.copy_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.copy_requests TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY router_takes ON mana_ai.copy_requests TO mana_router USING (true) WITH CHECK (true);
CREATE POLICY janitor_prunes ON mana_ai.copy_requests TO mana_janitor USING (true);

-- Asks for copies for a live run's own mission; what the last request under this grant came to, null where nothing did yet.
-- Asked again at once after copies were made, ten minutes later where they could not be.
CREATE FUNCTION mana_ai.request_copies(p_run uuid, p_attempt int) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  run mana_ai.runs := mana_ai.own_run(p_run, p_attempt);
  at timestamptz := clock_timestamp();
  given text;
  told text;
BEGIN
  IF run.lease_until <= at THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  SELECT s.record ->> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = run.user_id AND s.mission_id = run.mission_id;
  given := encode(sha256(convert_to(coalesce(given, ''), 'UTF8')), 'hex');
  INSERT INTO mana_ai.copy_requests AS q (user_id, mission_id, asked_at, due_at, for_grant)
  VALUES (run.user_id, run.mission_id, at, at, given)
  ON CONFLICT (user_id, mission_id) DO UPDATE
     SET asked_at = at, for_grant = given, answer = CASE WHEN q.for_grant = given THEN q.answer END,
         due_at = CASE WHEN q.due_at IS NOT NULL THEN q.due_at
                       WHEN q.for_grant <> given THEN at
                       WHEN q.answer IN ('made', 'current') THEN greatest(at, q.answered_at + interval '10 seconds')
                       WHEN q.answered_at <= at - interval '10 minutes' THEN at END
  RETURNING q.answer INTO told;
  RETURN told;
END $$;

-- Takes the oldest requests, of each person one before anybody's second, for as long as a lease; one that nobody answers comes
-- back after it, each time later. Ids only.
CREATE FUNCTION mana_ai.take_copy_requests(p_limit int, p_lease_s int) RETURNS TABLE (user_id text, mission_id text, taken uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH oldest AS MATERIALIZED (
    SELECT d.user_id, d.mission_id, d.due_at, row_number() OVER (PARTITION BY d.user_id ORDER BY d.due_at, d.mission_id) AS turn
      FROM (SELECT q.user_id, q.mission_id, q.due_at FROM mana_ai.copy_requests AS q
             WHERE q.due_at <= (SELECT clock_timestamp()) ORDER BY q.due_at LIMIT 1000) AS d),
  mine AS MATERIALIZED (
    SELECT q.user_id, q.mission_id FROM mana_ai.copy_requests AS q
      JOIN oldest AS o ON o.user_id = q.user_id AND o.mission_id = q.mission_id
     WHERE q.due_at <= (SELECT clock_timestamp())
     ORDER BY o.turn, o.due_at, q.user_id LIMIT p_limit FOR UPDATE OF q SKIP LOCKED)
  UPDATE mana_ai.copy_requests AS q
     SET taken = gen_random_uuid(), taken_at = clock_timestamp(), tries = q.tries + 1,
         due_at = clock_timestamp() + least(p_lease_s * (1 << least(q.tries, 10)), 3600) * interval '1 second'
    FROM mine WHERE q.user_id = mine.user_id AND q.mission_id = mine.mission_id
  RETURNING q.user_id, q.mission_id, q.taken;
END;

-- A record's rows for whoever took the request: only an input of that mission that its grant lists, 2 MB of rows at most.
CREATE FUNCTION mana_ai.copy_source(p_user text, p_mission text, p_taken uuid, p_app text, p_table text, p_record text)
RETURNS TABLE (id uuid, op text, data text, field_meta text, created_us bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.copy_requests AS q WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken
                    AND q.due_at > clock_timestamp())
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                       AND s.record -> 'inputs' @> jsonb_build_array(jsonb_build_object('table', p_table, 'id', p_record))
                       AND s.record #> '{grant,derivation,recordIds}' ? (p_table || ':' || p_record)) THEN
    RAISE EXCEPTION 'superseded' USING ERRCODE = 'MA002';
  END IF;
  IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
       WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 2097152 THEN
    RAISE EXCEPTION 'copy_source: over 2 MB of rows' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  RETURN QUERY SELECT c.id, c.op, c.data::text, c.field_meta::text, (extract(epoch FROM c.created_at) * 1000000)::bigint
    FROM mana_ai.log_rows AS c
   WHERE c.user_id = p_user AND c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record ORDER BY c.created_at, c.id;
END $$;

-- What became of a request, from whoever still has it; asked again meanwhile, it is due again. An answer that is news, and not
-- that copies are there (they wake it themselves), has the mission looked at again: its owner is told why.
CREATE FUNCTION mana_ai.answer_copies(p_user text, p_mission text, p_taken uuid, p_answer text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked mana_ai.copy_requests;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT * INTO asked FROM mana_ai.copy_requests AS q
   WHERE q.user_id = p_user AND q.mission_id = p_mission AND q.taken = p_taken FOR UPDATE;
  IF asked.taken IS NULL THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.copy_requests AS q
     SET answer = p_answer, answered_at = clock_timestamp(), tries = 0, taken = NULL,
         due_at = CASE WHEN asked.asked_at > asked.taken_at THEN clock_timestamp() END
   WHERE q.user_id = p_user AND q.mission_id = p_mission;
  IF p_answer NOT IN ('made', 'current') AND p_answer IS DISTINCT FROM asked.answer THEN
    UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
     WHERE user_id = p_user AND mission_id = p_mission;
  END IF;
  RETURN true;
END $$;

-- As before, with what each copy was made of.
CREATE OR REPLACE FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  until timestamptz;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots WHERE user_id = p_user AND mission_id = p_mission FOR UPDATE;  -- a revoke waits, then deletes
  until := mana_ai.grant_end(p_user, p_mission);
  IF until IS NULL OR until <= clock_timestamp() THEN
    RETURN false;
  END IF;
  INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, source, expires_at)
  SELECT DISTINCT ON (c ->> 'table', c ->> 'id') p_user, p_mission, c ->> 'table', c ->> 'id', c -> 'fields', c ->> 'source', until
    FROM jsonb_array_elements(p_copies) AS c
  ON CONFLICT (user_id, mission_id, table_name, record_id)
  DO UPDATE SET data = excluded.data, source = excluded.source, expires_at = excluded.expires_at, written_at = clock_timestamp();
  UPDATE mana_ai.sealed_copies SET expires_at = until WHERE user_id = p_user AND mission_id = p_mission;
  IF (SELECT count(*) FROM mana_ai.sealed_copies WHERE user_id = p_user AND mission_id = p_mission) > 1000 THEN
    RAISE EXCEPTION 'sealed_copies: over 1000 of one mission' USING ERRCODE = 'check_violation';
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
   WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

RESET ROLE;
GRANT CREATE ON SCHEMA mana_ai TO mana_router;  -- only until the function is handed over
ALTER FUNCTION mana_ai.take_copy_requests(int, int) OWNER TO mana_router;
REVOKE CREATE ON SCHEMA mana_ai FROM mana_router;
GRANT SELECT, UPDATE ON mana_ai.copy_requests TO mana_router;

REVOKE ALL ON FUNCTION mana_ai.request_copies(uuid, int), mana_ai.take_copy_requests(int, int),
  mana_ai.copy_source(text, text, uuid, text, text, text), mana_ai.answer_copies(text, text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.request_copies(uuid, int) TO mana_agent;
GRANT EXECUTE ON FUNCTION mana_ai.take_copy_requests(int, int), mana_ai.copy_source(text, text, uuid, text, text, text),
  mana_ai.answer_copies(text, text, uuid, text) TO mana_gateway;
GRANT SELECT (user_id, mission_id, table_name, record_id, source, written_at) ON mana_ai.sealed_copies TO mana_gateway;
GRANT SELECT (asked_at), DELETE ON mana_ai.copy_requests TO mana_janitor;
