CREATE OR REPLACE FUNCTION mana_ai.is_shared(p_space text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_space IS NOT NULL AND p_space <> '' AND NOT starts_with(p_space, '_personal:');

COMMENT ON FUNCTION mana_ai.is_shared IS
'Whether a space is shared. A row of a shared space folds into the record of whoever inserted it; a personal row always
into its author''s.';
ALTER FUNCTION mana_ai.is_shared OWNER TO mana_router;
GRANT EXECUTE ON FUNCTION mana_ai.is_shared TO mana_owner, mana_supervisor, mana_compactor;
