CREATE OR REPLACE FUNCTION mana_ai.own_record(p_user text, p_spaces text[], p_app text, p_table text, p_record text, p_hold text,
  OUT owner text, OUT space text, OUT is_member boolean, OUT snapshot jsonb, OUT changes jsonb, OUT now timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF p_hold <> 'nothing' THEN
    PERFORM mana_ai.own_lock('user:' || p_user);
  END IF;
  PERFORM set_config('app.current_user_id', p_user, true), set_config('app.current_user_space_ids', array_to_string(p_spaces, ','), true);
  SELECT c.user_id, c.space_id INTO owner, space FROM mana_ai.log_rows AS c
   WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record AND c.op = 'insert'
     AND (c.user_id = p_user OR mana_ai.is_shared(c.space_id) AND c.space_id = ANY (p_spaces))
   ORDER BY (c.user_id = p_user) DESC, c.created_at, c.id LIMIT 1;
  IF p_hold <> 'nothing' AND mana_ai.is_shared(space) THEN
    PERFORM mana_ai.own_lock('space:' || space);
  END IF;
  IF p_app = 'ai' AND p_table IN ('agents', 'aiMissions') AND owner IS NOT NULL THEN
    PERFORM set_config('app.current_user_id', owner, true);
    IF p_hold = 'plan' AND p_table = 'aiMissions' THEN
      PERFORM FROM mana_ai.mission_snapshots AS s WHERE s.user_id = owner AND s.mission_id = p_record FOR UPDATE;
    END IF;
    SELECT to_jsonb(k) INTO snapshot FROM (
      SELECT s.record, s.present, s.complete FROM mana_ai.mission_snapshots AS s
       WHERE p_table = 'aiMissions' AND s.user_id = owner AND s.mission_id = p_record
      UNION ALL SELECT s.record, s.present, s.complete FROM mana_ai.agent_snapshots AS s
       WHERE p_table = 'agents' AND s.user_id = owner AND s.agent_id = p_record) AS k;
    changes := mana_ai.unfolded(owner, p_table, p_record);
    PERFORM set_config('app.current_user_id', p_user, true);
  ELSIF owner IS NOT NULL THEN
    IF (SELECT sum(length(c.data::text)) FROM mana_ai.log_rows AS c
         WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record) > 16777216 THEN
      RAISE EXCEPTION 'own_record: over 16 MB of rows' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    SELECT jsonb_agg(jsonb_build_object('id', c.id, 'op', c.op, 'data', c.data::text, 'field_meta', c.field_meta::text,
                                        'created_at', (extract(epoch FROM c.created_at) * 1000000)::bigint) ORDER BY c.created_at, c.id)
      INTO changes FROM mana_ai.log_rows AS c
     WHERE c.app_id = p_app AND c.table_name = p_table AND c.record_id = p_record
       AND (c.user_id = owner OR mana_ai.is_shared(space) AND c.space_id = space AND c.op <> 'insert');
  END IF;
  is_member := NOT mana_ai.is_shared(space) OR space = ANY (p_spaces);
  now := clock_timestamp();
END $$;

COMMENT ON FUNCTION mana_ai.own_record IS
'One record as a person may read it, for the gateway: whose it is, its space, its snapshot and the rows to fold into that,
or all its rows where it has none. It is the person''s own record of that id, else the first that a member inserted in a
shared space of theirs; without any insert there is no record. is_member: it is personal, or they belong to its space. p_hold: ''nothing'', ''writers'' (nobody else writes as
this person or into that space until the transaction ends) or ''plan'' (no run ends meanwhile either, since it writes the
same iterations). A pause must reach an agent out of control, so it never asks for the last.';
ALTER FUNCTION mana_ai.own_record OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.own_record TO mana_gateway;
