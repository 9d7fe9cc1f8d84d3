-- Capabilities of agents whose missions list thousands of inputs. The bound fits 3,000 ids of 36 characters in the table
-- with the longest name; a reach that does not fit is refused where it is signed, so that somebody hears of it.
SET LOCAL ROLE mana_owner;

-- The longest capability that is accepted, in characters.
CREATE FUNCTION mana_ai.capability_chars() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 512 * 1024;

-- For hundreds of kilobytes: replace() is several times faster than translate(), which looks at characters.
CREATE OR REPLACE FUNCTION mana_ai.unbase64url(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN decode(replace(replace(p_text, '-', '+'), '_', '/') || repeat('=', (4 - octet_length(p_text) % 4) % 4), 'base64');

-- A thousand characters are left for a renewal, whose secret may have a longer name.
CREATE OR REPLACE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s int)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                       'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));
BEGIN
  IF octet_length(token) > mana_ai.capability_chars() - 1000 THEN
    RAISE EXCEPTION 'capability_too_long' USING ERRCODE = 'MA004';
  END IF;
  RETURN token;
END $$;

-- The signature comes first: what nobody signed costs one hash per secret, and is never parsed.
CREATE OR REPLACE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  token text := current_setting('app.capability', true);
  body text;
  payload jsonb;
BEGIN
  IF coalesce(token, '') = '' OR octet_length(token) > mana_ai.capability_chars() THEN
    RETURN NULL;
  END IF;
  body := split_part(token, '.', 1);
  IF NOT EXISTS (
       SELECT FROM mana_ai.capability_secrets AS k
        WHERE k.audience = p_audience AND (k.verifies_until IS NULL OR k.verifies_until > clock_timestamp())
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8'))))) THEN
    RETURN NULL;
  END IF;
  payload := convert_from(mana_ai.unbase64url(body), 'UTF8')::jsonb;
  IF payload ->> 'aud' IS DISTINCT FROM p_audience OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

RESET ROLE;
REVOKE ALL ON FUNCTION mana_ai.capability_chars() FROM PUBLIC;
