CREATE OR REPLACE FUNCTION mana_ai.forget_revoked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  acting text := current_setting('app.current_user_id', true);
BEGIN
  PERFORM set_config('app.current_user_id', NEW.user_id, true);
  DELETE FROM mana_ai.sealed_copies WHERE user_id = NEW.user_id AND mission_id = NEW.mission_id;
  DELETE FROM mana_ai.journal WHERE (run_id, round) IN (  -- one that is locked is being dropped anyway
    SELECT j.run_id, j.round FROM mana_ai.journal AS j JOIN mana_ai.runs AS r ON r.run_id = j.run_id
     WHERE r.user_id = NEW.user_id AND r.mission_id = NEW.mission_id FOR UPDATE OF j SKIP LOCKED);
  PERFORM set_config('app.current_user_id', coalesce(acting, ''), true);
  RETURN NULL;
END $$;

COMMENT ON FUNCTION mana_ai.forget_revoked IS
'Deletes sealed copies and journalled answers when a fold shows that a grant was revoked or its mission is gone.';
ALTER FUNCTION mana_ai.forget_revoked OWNER TO mana_owner;
