CREATE OR REPLACE FUNCTION mana_ai.capability_secrets_now()
RETURNS TABLE (audience text, kid text, created_at timestamptz, verifies_until timestamptz, asked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.audience, k.kid, k.created_at, k.verifies_until, clock_timestamp()
    FROM mana_ai.capability_secrets AS k ORDER BY k.audience, k.created_at DESC
$$;

COMMENT ON FUNCTION mana_ai.capability_secrets_now IS
'Which signing secrets there are, and until when each verifies. It returns nothing of the secrets themselves.';
ALTER FUNCTION mana_ai.capability_secrets_now OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.capability_secrets_now TO mana_supervisor;
