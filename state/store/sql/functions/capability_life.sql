CREATE OR REPLACE FUNCTION mana_ai.capability_life() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '2 hours';

COMMENT ON FUNCTION mana_ai.capability_life IS
'The longest that a capability lives, whatever was asked for: what renew() gives for the longest lease.';
ALTER FUNCTION mana_ai.capability_life OWNER TO mana_owner;
