-- Capabilities: what one agent process may do, signed here and only here. base64url(payload) "." base64url(HMAC-SHA-256),
-- payload = {"u": user, "a": agent, "s": [space ids], "sc": [scope], "aud": audience, "exp": unix seconds, "kid": key id}.
-- HMAC is RFC 2104 over core sha256() with precomputed pads, so pgcrypto is not needed.
SET LOCAL ROLE mana_owner;

CREATE FUNCTION mana_ai.base64url(p_bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN translate(encode(p_bytes, 'base64'), E'+/=\n', '-_');

CREATE FUNCTION mana_ai.unbase64url(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN decode(rpad(translate(p_text, '-_', '+/'), (length(p_text) + 3) / 4 * 4, '='), 'base64');

CREATE FUNCTION mana_ai.pad(p_secret bytea, p_byte int) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT
RETURN (SELECT string_agg(decode(lpad(to_hex(
          (CASE WHEN i < length(p_secret) THEN get_byte(p_secret, i) ELSE 0 END) # p_byte), 2, '0'), 'hex'), ''::bytea ORDER BY i)
          FROM generate_series(0, 63) AS i);

-- Adds a signing secret for an audience (32 random bytes from the caller); the newest signs, all that are there verify.
CREATE FUNCTION mana_ai.add_capability_secret(p_audience text, p_kid text, p_secret bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
  VALUES (p_audience, p_kid, mana_ai.pad(p_secret, 54), mana_ai.pad(p_secret, 92))
  ON CONFLICT DO NOTHING;
END;

CREATE FUNCTION mana_ai.sign_payload(p_payload jsonb) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT body.text || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body.text, 'UTF8'))))
          FROM (SELECT * FROM mana_ai.capability_secrets WHERE audience = p_payload ->> 'aud' AND signs
                 ORDER BY created_at DESC, kid LIMIT 1) AS k,
       LATERAL (SELECT mana_ai.base64url(convert_to((p_payload || jsonb_build_object('kid', k.kid))::text, 'UTF8'))) AS body (text));

-- Only the supervisor may call this.
CREATE FUNCTION mana_ai.sign_capability(p_user text, p_agent text, p_spaces text[], p_scope text[], p_audience text, p_ttl_s int)
RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.sign_payload(jsonb_build_object('u', p_user, 'a', p_agent, 's', p_spaces, 'sc', p_scope, 'aud', p_audience,
                                               'exp', floor(extract(epoch FROM clock_timestamp()))::bigint + p_ttl_s));

-- The capability of this transaction if its signature holds and it has not expired by the wall clock, else null.
CREATE FUNCTION mana_ai.capability(p_audience text DEFAULT 'db') RETURNS jsonb
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
          AND token = body || '.' || mana_ai.base64url(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(body, 'UTF8')))))
     OR (payload ->> 'exp')::bigint <= extract(epoch FROM clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

CREATE FUNCTION mana_ai.capability_user() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'u';
CREATE FUNCTION mana_ai.capability_agent() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN mana_ai.capability() ->> 'a';

-- What the capability's scope lists outside app "ai": "app/table/record" entries.
CREATE FUNCTION mana_ai.capability_scope() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT jsonb_array_elements_text(mana_ai.capability() -> 'sc'));

-- Write functions raise rather than find no row: a capability that ran out must not look like "nothing to do".
CREATE FUNCTION mana_ai.require_capability() RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.capability();
BEGIN
  IF held IS NULL THEN
    RAISE EXCEPTION 'capability_invalid' USING ERRCODE = 'MA001';
  END IF;
  PERFORM set_config('app.current_user_id', held ->> 'u', true);
  RETURN held;
END $$;

-- Whose rows a function owned by mana_owner sees: the capability's user in an agent's session, else the user that the
-- trusted session (supervisor, gateway) named for this transaction.
CREATE FUNCTION mana_ai.acting_user() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN session_user = 'mana_agent' THEN mana_ai.capability() ->> 'u'
            ELSE current_setting('app.current_user_id', true) END;

RESET ROLE;
