-- Sealed copies: what a mission may read of its owner's encrypted records, sealed by the owner's client under that mission's
-- data key. They live as long as the grant in the mission's snapshot: a revoked or expired one takes them along.
SET LOCAL ROLE mana_owner;

CREATE TABLE mana_ai.sealed_copies (
  user_id text NOT NULL,
  mission_id text NOT NULL,
  table_name text NOT NULL,
  record_id text NOT NULL,
  data jsonb NOT NULL CONSTRAINT sealed_copies_bounded CHECK (jsonb_typeof(data) = 'object' AND length(data::text) <= 262144),
  written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, mission_id, table_name, record_id));
CREATE INDEX sealed_copies_age ON mana_ai.sealed_copies (expires_at);

ALTER TABLE mana_ai.sealed_copies ENABLE ROW LEVEL SECURITY;
ALTER TABLE mana_ai.sealed_copies FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_acts_for_user ON mana_ai.sealed_copies TO mana_owner
  USING (user_id = (SELECT mana_ai.acting_user())) WITH CHECK (user_id = (SELECT mana_ai.acting_user()));
CREATE POLICY agent_reads_own_missions ON mana_ai.sealed_copies FOR SELECT TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()) AND expires_at > clock_timestamp() AND EXISTS (
         SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = sealed_copies.user_id AND s.mission_id = sealed_copies.mission_id
            AND s.agent_id = (SELECT mana_ai.capability_agent())));
CREATE POLICY agent_within_capability ON mana_ai.sealed_copies AS RESTRICTIVE TO mana_agent
  USING (user_id = (SELECT mana_ai.capability_user()));
CREATE POLICY janitor_prunes ON mana_ai.sealed_copies TO mana_janitor USING (true);

-- The end of a grant as its mission tells it, never more than 30 days away; null where there is no such mission or no grant.
CREATE FUNCTION mana_ai.grant_end(p_user text, p_mission text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given jsonb;
  most timestamptz := clock_timestamp() + interval '30 days';
BEGIN
  SELECT s.record -> 'grant' INTO given FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden;
  IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
    RETURN NULL;
  END IF;
  RETURN least(most, (given ->> 'expiresAt')::timestamptz);
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

-- Puts copies in the place of those there are; false where the mission has no living grant. The mission is looked at again,
-- also where a run that missed them ends in this moment: what it asks for belongs to the version before.
CREATE FUNCTION mana_ai.put_sealed_copies(p_user text, p_mission text, p_copies jsonb) RETURNS boolean
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
  INSERT INTO mana_ai.sealed_copies (user_id, mission_id, table_name, record_id, data, expires_at)
  SELECT DISTINCT ON (c ->> 'table', c ->> 'id') p_user, p_mission, c ->> 'table', c ->> 'id', c -> 'fields', until
    FROM jsonb_array_elements(p_copies) AS c
  ON CONFLICT (user_id, mission_id, table_name, record_id)
  DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at, written_at = clock_timestamp();
  UPDATE mana_ai.sealed_copies SET expires_at = until WHERE user_id = p_user AND mission_id = p_mission;
  IF (SELECT count(*) FROM mana_ai.sealed_copies WHERE user_id = p_user AND mission_id = p_mission) > 1000 THEN
    RAISE EXCEPTION 'sealed_copies: over 1000 of one mission' USING ERRCODE = 'check_violation';
  END IF;
  UPDATE mana_ai.mission_snapshots SET wake_at = least(wake_at, clock_timestamp()), version = nextval('mana_ai.snapshot_version')
   WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

-- A fold that shows a revoked grant, or a mission that is gone, leaves neither copies nor answers that were made of them.
CREATE FUNCTION mana_ai.forget_revoked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  acting text := current_setting('app.current_user_id', true);
BEGIN
  PERFORM set_config('app.current_user_id', NEW.user_id, true);
  DELETE FROM mana_ai.sealed_copies WHERE user_id = NEW.user_id AND mission_id = NEW.mission_id;
  DELETE FROM mana_ai.journal WHERE (run_id, round) IN (  -- one that is locked is being dropped anyway
    SELECT j.run_id, j.round FROM mana_ai.journal AS j JOIN mana_ai.runs AS r ON r.run_id = j.run_id
     WHERE r.user_id = NEW.user_id AND r.mission_id = NEW.mission_id FOR UPDATE OF j SKIP LOCKED);
  PERFORM set_config('app.current_user_id', coalesce(acting, ''), true);
  RETURN NULL;
END $$;
CREATE TRIGGER forget_revoked AFTER UPDATE OF record, hidden ON mana_ai.mission_snapshots FOR EACH ROW
  WHEN (jsonb_typeof(OLD.record -> 'grant') IS NOT DISTINCT FROM 'object'
        AND (NEW.hidden OR jsonb_typeof(NEW.record -> 'grant') IS DISTINCT FROM 'object'))
  EXECUTE FUNCTION mana_ai.forget_revoked();

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.grant_end(text, text), mana_ai.put_sealed_copies(text, text, jsonb), mana_ai.forget_revoked() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.put_sealed_copies(text, text, jsonb) TO mana_gateway;
GRANT SELECT ON mana_ai.sealed_copies TO mana_agent;
GRANT SELECT (expires_at), DELETE ON mana_ai.sealed_copies TO mana_janitor;
