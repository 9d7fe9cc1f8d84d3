CREATE OR REPLACE FUNCTION mana_ai.rotate_capability_secrets(p_now boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  its_audience text;
  secret bytea;
BEGIN
  LOCK TABLE mana_ai.capability_secrets IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM mana_ai.capability_secrets WHERE p_now OR verifies_until <= clock_timestamp();
  IF EXISTS (SELECT FROM mana_ai.capability_secrets WHERE verifies_until IS NOT NULL) THEN
    RAISE EXCEPTION 'rotated_already' USING ERRCODE = 'MA003';
  END IF;
  -- A minute more: what is being signed at this moment lives that much longer.
  UPDATE mana_ai.capability_secrets
     SET signs = false, verifies_until = clock_timestamp() + mana_ai.capability_life() + interval '1 minute';
  FOREACH its_audience IN ARRAY ARRAY['db', 'keys'] LOOP
    secret := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    INSERT INTO mana_ai.capability_secrets (audience, kid, inner_pad, outer_pad)
    VALUES (its_audience, substr(md5(gen_random_uuid()::text), 1, 8), mana_ai.pad(secret, 54), mana_ai.pad(secret, 92));
  END LOOP;
END $$;

COMMENT ON FUNCTION mana_ai.rotate_capability_secrets IS
'Makes new secrets that sign from now on. The ones before verify as long as anything they signed can live; with p_now
they are refused from the commit on. At most two verify per audience, so a rotation within the overlap is refused. The
table lock makes rotations take turns, and lets others sign and verify. Not SECURITY DEFINER: only the table''s owner
gets anywhere with it.';
ALTER FUNCTION mana_ai.rotate_capability_secrets OWNER TO mana_owner;
