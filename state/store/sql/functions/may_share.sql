CREATE OR REPLACE FUNCTION mana_ai.may_share(p_user text, p_space text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN NOT EXISTS (SELECT FROM mana_ai.spaces AS s WHERE s.space_id = p_space)
         OR EXISTS (SELECT FROM mana_ai.space_members AS m WHERE m.space_id = p_space AND m.user_id = p_user);
END $$;

COMMENT ON FUNCTION mana_ai.may_share IS
'Whether a person may read a space now. Of a space that is kept here only its members may; of any other an auth service of the
deployment decides, so that what a capability says of it holds.';
ALTER FUNCTION mana_ai.may_share OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.may_share TO mana_supervisor;
