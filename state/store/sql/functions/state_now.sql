CREATE OR REPLACE FUNCTION mana_ai.state_now(p_user text, p_table text, p_record text, OUT snapshot jsonb, OUT changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  record jsonb;
  present boolean;
  complete boolean;
BEGIN
  PERFORM set_config('app.current_user_id', p_user, true);
  IF p_table = 'agents' THEN
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.agent_snapshots AS s
     WHERE s.user_id = p_user AND s.agent_id = p_record;
  ELSE
    SELECT s.record, s.present, s.complete INTO record, present, complete FROM mana_ai.mission_snapshots AS s
     WHERE s.user_id = p_user AND s.mission_id = p_record;
  END IF;
  IF record IS NOT NULL THEN
    snapshot := jsonb_build_object('present', present, 'complete', complete, 'record',
      mana_ai.only_state(record) || jsonb_build_object('__fieldMeta', mana_ai.only_state(record -> '__fieldMeta')));
  END IF;
  SELECT jsonb_agg(c || jsonb_build_object('data', mana_ai.only_state((c ->> 'data')::jsonb)::text,
                                           'field_meta', mana_ai.only_state((c ->> 'field_meta')::jsonb)::text))
    INTO changes FROM jsonb_array_elements(mana_ai.unfolded(p_user, p_table, p_record)) AS c;
END $$;

COMMENT ON FUNCTION mana_ai.state_now IS
'What a pause decides by: state, deletion and their stamps, with the rows not folded yet; for the gateway. No other
word of the record is returned. It takes no lock that an agent could hold: an agent out of control must still be
stoppable.';
ALTER FUNCTION mana_ai.state_now OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.state_now TO mana_gateway;
