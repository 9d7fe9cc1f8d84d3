CREATE OR REPLACE FUNCTION mana_ai.model_word(p_text text) RETURNS text IMMUTABLE
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN p_text ~ '^[A-Za-z0-9._:/@+-]{1,120}$' THEN p_text ELSE 'unknown' END;
END;

COMMENT ON FUNCTION mana_ai.model_word IS
'A model''s name as a provider may write it, else ''unknown''. Operators see it, so it must not carry a sentence.';
ALTER FUNCTION mana_ai.model_word OWNER TO mana_owner;
