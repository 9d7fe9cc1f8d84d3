CREATE OR REPLACE FUNCTION mana_ai.request_run(p_user text, p_mission text, p_key text, OUT due_at timestamptz, OUT created boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.complete AND NOT s.hidden) THEN
    RETURN;
  END IF;
  INSERT INTO mana_ai.run_requests AS q (user_id, request_key, mission_id) VALUES (p_user, p_key, p_mission)
  ON CONFLICT DO NOTHING RETURNING q.due_at INTO request_run.due_at;
  created := FOUND;
  IF NOT created THEN
    SELECT q.due_at INTO request_run.due_at FROM mana_ai.run_requests AS q
     WHERE q.user_id = p_user AND q.request_key = p_key AND q.mission_id = p_mission;
    RETURN;
  END IF;
  -- Also where it is due already: a look that has read it and not this request then finds another time, and leaves it.
  UPDATE mana_ai.mission_snapshots SET wake_at = request_run.due_at WHERE user_id = p_user AND mission_id = p_mission;
END $$;

COMMENT ON FUNCTION mana_ai.request_run IS
'"Run now", under the caller''s idempotency key; for the gateway. The same key gives the same occurrence.';
ALTER FUNCTION mana_ai.request_run OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.request_run TO mana_gateway;
