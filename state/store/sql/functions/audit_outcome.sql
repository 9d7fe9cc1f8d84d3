CREATE OR REPLACE FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid, p_iteration text, p_tables text[], p_records text[], p_statuses text[],
  p_reasons text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
  release mana_ai.key_releases;
BEGIN
  SELECT * INTO release FROM mana_ai.key_releases AS k
   WHERE k.release_id = p_release AND k.user_id = held ->> 'u' AND k.agent_id = held ->> 'a' AND k.outcome = 'released';
  IF release.release_id IS NULL OR cardinality(p_tables) + (SELECT count(*) FROM mana_ai.decrypt_audit AS d
       WHERE d.release_id = p_release) > 4000 THEN
    RAISE EXCEPTION 'audit_outcome: no such release' USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id, status, reason, run_id, attempt, release_id)
  SELECT release.user_id, release.mission_id, left(p_iteration, 512), left(k.t, 512), left(k.r, 512), k.s, left(k.w, 512),
         release.run_id, release.attempt, p_release
    FROM unnest(p_tables, p_records, p_statuses, p_reasons) AS k (t, r, s, w);
END $$;

COMMENT ON FUNCTION mana_ai.audit_outcome IS
'Notes for an agent how reading under a released key went. An attempt that lost its run may still say so: what it read,
it read. At most 4,000 rows per release.';
ALTER FUNCTION mana_ai.audit_outcome OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.audit_outcome TO mana_agent;
