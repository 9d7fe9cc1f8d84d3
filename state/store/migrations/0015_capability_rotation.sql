-- Rotation of the secrets that sign capabilities, without downtime: per audience one secret signs, and the one before
-- verifies for as long as anything it signed can be alive. After that the clock refuses it; the next rotation removes its row.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.capability_secrets ADD COLUMN verifies_until timestamptz;  -- null: it signs

-- The longest that a capability lives, whatever was asked for: what renew() gives for the longest lease.
CREATE FUNCTION mana_ai.capability_life() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '2 hours';

-- Callers that ran at once may have added several: the newest goes on signing, as it did.
UPDATE mana_ai.capability_secrets AS k
   SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute'
 WHERE NOT signs OR EXISTS (
         SELECT FROM mana_ai.capability_secrets AS newer
          WHERE newer.audience = k.audience AND newer.signs AND (newer.created_at, k.kid) > (k.created_at, newer.kid));
ALTER TABLE mana_ai.capability_secrets
  ADD CONSTRAINT capability_secrets_sign_or_end CHECK (signs = (verifies_until IS NULL));
CREATE UNIQUE INDEX capability_secrets_one_signs ON mana_ai.capability_secrets (audience) WHERE signs;

CREATE OR REPLACE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT body.text || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body.text, 'UTF8'))))
          FROM (SELECT * FROM mana_ai.capability_secrets WHERE audience = p_payload ->> 'aud' AND signs) AS k,
       LATERAL (SELECT p_payload || jsonb_build_object('kid', k.kid, 'exp', least((p_payload ->> 'exp')::bigint,
                  floor(extract(epoch FROM clock_timestamp() + mana_ai.capability_life()))::bigint))) AS signed (payload),
       LATERAL (SELECT mana_ai.base64url(convert_to(signed.payload::text, 'UTF8'))) AS body (text));

CREATE OR REPLACE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text := split_part(token, '.', 1);
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR length(token) > 8192 THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND k.kid = payload ->> 'kid'
          AND (k.verifies_until IS NULL OR k.verifies_until > clock_timestamp())
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8')))))
     OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

-- New secrets sign from now on; with p_now, whatever was signed before is refused from the commit on. Two at most verify
-- per audience, so a rotation within the overlap is refused. Rotations take turns; who signs or verifies never waits.
-- Not SECURITY DEFINER: only the owner of the table gets anywhere with it.
CREATE FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  its_audience text;
  secret bytea;
BEGIN
  LOCK TABLE mana_ai.capability_secrets IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM mana_ai.capability_secrets WHERE p_now OR verifies_until <= clock_timestamp();
  IF EXISTS (SELECT FROM mana_ai.capability_secrets WHERE verifies_until IS NOT NULL) THEN
    RAISE EXCEPTION 'rotated_already' USING ERRCODE = 'MA003';
  END IF;
  -- A minute more: what is being signed at this moment lives that much longer.
  UPDATE mana_ai.capability_secrets
     SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute';
  FOREACH its_audience IN ARRAY ARRAY['db', 'keys'] LOOP
    secret := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
    VALUES (its_audience, substr(md5(gen_random_uuid()::text), 1, 8), mana_ai.pad(secret, 54), mana_ai.pad(secret, 92));
  END LOOP;
END $$;

-- Which secrets there are and until when each verifies; nothing of what they are.
CREATE FUNCTION mana_ai.capability_secrets_now()
RETURNS TABLE (audience text, kid text, created_at timestamptz, verifies_until timestamptz, asked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.audience, k.kid, k.created_at, k.verifies_until, clock_timestamp()
    FROM mana_ai.capability_secrets AS k ORDER BY k.audience, k.created_at DESC
$$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.capability_life(), mana_ai.rotate_capability_secrets(boolean), mana_ai.capability_secrets_now()
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mana_ai.capability_secrets_now() TO mana_supervisor;
