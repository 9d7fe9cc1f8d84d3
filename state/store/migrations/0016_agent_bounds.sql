-- What an agent's login could still do by hand, with a valid capability of its own.
SET LOCAL ROLE mana_owner;

-- Numbers no call has: their sum would pass bigint, and every check of the installation's limit and every operator's view would
-- fail. A call whose end is refused is charged at its hold; a hold ends with the longest call there is (an hour) and its margin.
ALTER TABLE mana_ai.token_usage ADD CONSTRAINT token_usage_believable
  CHECK (tokens_used BETWEEN 0 AND 8589934592 AND cost_micros BETWEEN 0 AND 1000000000000) NOT VALID;
ALTER TABLE mana_ai.token_holds ADD CONSTRAINT token_holds_believable
  CHECK (tokens <= 8589934592 AND cost_micros <= 1000000000000 AND deadline <= opened_at + interval '2 hours') NOT VALID;

-- Locks the agent's ledger row, in a statement of its own so that what follows reads what the previous holder wrote. In a
-- transaction that keeps one snapshot it would read what was there before, and pass every limit.
CREATE OR REPLACE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'lock_ledger: needs read committed' USING ERRCODE = 'invalid_transaction_state';
  END IF;
  INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES (p_user, p_agent) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.ledger WHERE user_id = p_user AND agent_id = p_agent FOR UPDATE;
END $$;

-- Puts back server iterations that a client's write dropped; at most once per iteration, a second removal is the owner's will.
-- p_version is the snapshot the array was made from: a change since then stands, and the mission is looked at again.
-- Its author is the agent, as in commit_run.
CREATE OR REPLACE FUNCTION mana_ai.heal_mission(p_mission text, p_version bigint, p_iterations jsonb, p_stamp text, p_actor jsonb, p_restored text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability();
BEGIN
  IF p_actor ->> 'kind' IS DISTINCT FROM 'ai' OR p_actor ->> 'principalId' IS DISTINCT FROM held ->> 'a' THEN
    RAISE EXCEPTION 'heal_mission: not by this agent' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM mana_ai.lock_ledger(held ->> 'u', held ->> 'a');
  IF EXISTS (SELECT FROM mana_ai.change_feed WHERE user_id = held ->> 'u' AND table_name = 'aiMissions' AND record_id = p_mission)
     OR NOT EXISTS (SELECT FROM mana_ai.mission_snapshots AS s
                     WHERE s.user_id = held ->> 'u' AND s.mission_id = p_mission AND s.version = p_version) THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.mission_snapshots SET heal = false
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND agent_id = held ->> 'a';
  IF NOT FOUND OR p_restored = '{}' THEN
    RETURN false;
  END IF;
  UPDATE mana_ai.runs SET healed_at = clock_timestamp()
   WHERE user_id = held ->> 'u' AND mission_id = p_mission AND iteration_id = ANY (p_restored) AND healed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM mana_ai.write_mission(held ->> 'u', p_mission, jsonb_build_object('iterations', p_iterations), p_stamp, p_actor, 'agent');
  RETURN true;
END $$;

RESET ROLE;
