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
  IF jsonb_typeof(payload -> 's') = 'array' AND payload -> 's' <> '[]' THEN
    payload := jsonb_set(payload, '{s}', coalesce((
      SELECT jsonb_agg(held.space) FROM jsonb_array_elements_text(payload -> 's') AS held (space)
       WHERE mana_ai.may_share(payload ->> 'u', held.space)), '[]'));
  END IF;
  RETURN payload;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire THEN
  RETURN NULL;  -- not a token of ours
END $$;

COMMENT ON FUNCTION mana_ai.capability IS
'The capability of this transaction, if its signature holds and the wall clock says it has not expired; else null. The
signature is checked first, so a text nobody signed costs one hash per secret and is never parsed. Of the spaces that it was
signed for, those are left that its user may read now.';
ALTER FUNCTION mana_ai.capability OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.capability TO mana_agent;
