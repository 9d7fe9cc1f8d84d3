CREATE OR REPLACE FUNCTION mana_ai.lock_installation() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM mana_ai.install FOR UPDATE;
END $$;

COMMENT ON FUNCTION mana_ai.lock_installation IS
'Takes the lock for spending under the installation''s limit. It is a statement of its own, like lock_ledger. No login
may take this lock by itself.';
ALTER FUNCTION mana_ai.lock_installation OWNER TO mana_owner;
