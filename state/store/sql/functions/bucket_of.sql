CREATE OR REPLACE FUNCTION mana_ai.bucket_of(p_user text) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN get_byte(sha256(convert_to(p_user, 'UTF8')), 0)::smallint;

COMMENT ON FUNCTION mana_ai.bucket_of IS
'Which of the 256 buckets a user''s rows belong to: the first byte of SHA-256 of the user id.';
ALTER FUNCTION mana_ai.bucket_of OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.bucket_of TO mana_router, mana_supervisor, mana_gateway;
