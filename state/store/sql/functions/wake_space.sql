CREATE OR REPLACE FUNCTION mana_ai.wake_space(p_user text, p_space text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.space_id = p_space ORDER BY s.mission_id FOR UPDATE;
  UPDATE mana_ai.mission_snapshots AS s SET wake_at = clock_timestamp()
   WHERE s.user_id = p_user AND s.space_id = p_space AND s.state = 'active' AND s.complete AND NOT s.hidden AND s.wake_at IS NULL;
END $$;

COMMENT ON FUNCTION mana_ai.wake_space IS
'Looks again at the missions of somebody who shares a space again: what waited for that waits for no row.';
ALTER FUNCTION mana_ai.wake_space OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.wake_space TO mana_gateway;
