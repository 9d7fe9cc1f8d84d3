CREATE OR REPLACE FUNCTION mana_ai.old_sessions(p_older_s double precision)
RETURNS TABLE (pid int, application text, age_s double precision, xids xid[])
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT a.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start)::double precision,
         ARRAY(SELECT l.transactionid FROM pg_locks AS l
                WHERE l.pid = a.pid AND l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted)
    FROM pg_stat_activity AS a
   WHERE a.usename = 'mana_agent' AND a.datname = current_database()
     AND a.xact_start < clock_timestamp() - p_older_s * interval '1 second'
     AND (a.wait_event_type IS DISTINCT FROM 'Lock' OR a.wait_event = 'advisory'
          OR a.xact_start < clock_timestamp() - 6 * p_older_s * interval '1 second');
END;

COMMENT ON FUNCTION mana_ai.old_sessions IS
'Sessions of agents in this database whose transaction began longer ago than that, in whatever state, with the
transaction ids that they have. One that waits for a lock is somebody''s victim and not among them; but nothing of ours
waits for an advisory lock, and nobody waits six times as long.';
ALTER FUNCTION mana_ai.old_sessions OWNER TO mana_ender;
GRANT EXECUTE ON FUNCTION mana_ai.old_sessions TO mana_supervisor;
