CREATE OR REPLACE FUNCTION mana_ai.change_digest(p_id uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || left(replace(p_id::text, '-', ''), 16))::bit(64)::bigint
     # ('x' || right(replace(p_id::text, '-', ''), 16))::bit(64)::bigint;

COMMENT ON FUNCTION mana_ai.change_digest IS
'One number per change row. A snapshot stores the xor of its rows'' numbers, so that the sweep can compare it with the
log; state/log/merge.py computes the same.';
ALTER FUNCTION mana_ai.change_digest OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.change_digest TO mana_router, mana_supervisor, mana_gateway, mana_compactor;
