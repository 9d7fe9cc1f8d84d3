CREATE OR REPLACE FUNCTION mana_ai.capability_chars() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 512 * 1024;

COMMENT ON FUNCTION mana_ai.capability_chars IS
'The longest capability that is accepted, in characters. It fits 3,000 ids of 36 characters in the table with the
longest name.';
ALTER FUNCTION mana_ai.capability_chars OWNER TO mana_owner;
