CREATE OR REPLACE FUNCTION mana_ai.members_of(p_space text) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT ARRAY(SELECT m.user_id FROM mana_ai.space_members AS m WHERE m.space_id = p_space);
END;

COMMENT ON FUNCTION mana_ai.members_of IS
'Who shares a space that is kept here; nobody where it is kept elsewhere.';
ALTER FUNCTION mana_ai.members_of OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.members_of TO mana_supervisor;
