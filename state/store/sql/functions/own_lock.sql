CREATE OR REPLACE FUNCTION mana_ai.own_lock(p_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO mana_ai.own_locks (name) VALUES (p_name) ON CONFLICT DO NOTHING;
  PERFORM FROM mana_ai.own_locks WHERE name = p_name FOR UPDATE;
END $$;

COMMENT ON FUNCTION mana_ai.own_lock IS
'Waits until nobody else writes as this person, or into this shared space. A row, since any login could hold an advisory
lock. It is a statement of its own, so that the next one reads what the previous holder wrote.';
ALTER FUNCTION mana_ai.own_lock OWNER TO mana_owner;
