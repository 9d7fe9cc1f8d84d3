CREATE OR REPLACE FUNCTION mana_ai.end_sessions(p_older_s double precision, p_pids int[]) RETURNS SETOF int
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH old AS MATERIALIZED (SELECT o.pid FROM mana_ai.old_sessions(p_older_s) AS o WHERE o.pid = ANY (p_pids))
  SELECT o.pid FROM old AS o WHERE pg_terminate_backend(o.pid);
END;

COMMENT ON FUNCTION mana_ai.end_sessions IS
'Ends those of these sessions that are old still, and returns which; for the supervisor. Its owner is a member of
mana_agent and of nothing else, so it ends no other login''s sessions and needs no superuser.';
ALTER FUNCTION mana_ai.end_sessions OWNER TO mana_ender;
GRANT EXECUTE ON FUNCTION mana_ai.end_sessions TO mana_supervisor;
