CREATE OR REPLACE FUNCTION mana_ai.move_slot(p_user text, p_mission text, p_due timestamptz, p_next text, p_stamp text, p_actor jsonb,
  p_missed_after interval, p_missed text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  agent text;
  is_over boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  SELECT s.agent_id INTO agent FROM mana_ai.mission_snapshots AS s
   WHERE s.user_id = p_user AND s.mission_id = p_mission AND s.next_run_at = p_due FOR UPDATE SKIP LOCKED;
  IF NOT FOUND
     OR EXISTS (SELECT FROM mana_ai.unfolded_rows(p_user, 'aiMissions', p_mission)) THEN
    RETURN false;
  END IF;
  is_over := EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission AND r.due_at = p_due
                        AND (r.state IN ('committed', 'failed') OR r.cancelled_at IS NOT NULL))
             OR EXISTS (SELECT FROM mana_ai.install AS i WHERE p_due < i.slots_from);
  IF NOT is_over THEN
    IF NOT (EXISTS (SELECT FROM mana_ai.mission_snapshots AS s WHERE s.user_id = p_user AND s.mission_id = p_mission
                            AND s.record ->> 'missedRuns' = 'none' AND p_due < clock_timestamp() - p_missed_after)
            AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = p_user AND r.mission_id = p_mission
                               AND r.state IN ('open', 'waiting'))) THEN
      RETURN false;
    END IF;
    PERFORM mana_ai.note_decision(p_user, p_mission, agent, p_due, 'skipped-missed', p_missed);
  END IF;
  PERFORM mana_ai.write_mission(p_user, p_mission, jsonb_build_object('nextRunAt', p_next), p_stamp, p_actor, 'system');
  UPDATE mana_ai.mission_snapshots SET wake_at = NULL WHERE user_id = p_user AND mission_id = p_mission;
  RETURN true;
END $$;

COMMENT ON FUNCTION mana_ai.move_slot IS
'Moves a due slot on without a plan; for the supervisor. Only a slot that was served or cancelled already, that fell due
before the installation, or that nobody began within p_missed_after where the owner wants no run then, who is told so. While rows of the
mission wait to be folded nothing is moved: one of them may be the plan''s own next run, or a time that its owner or a member chose;
nor while somebody holds the mission: the supervisor waits for nobody.';
ALTER FUNCTION mana_ai.move_slot OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.move_slot TO mana_supervisor;
