CREATE OR REPLACE FUNCTION mana_ai.sync_feeds_of(p_user text, p_spaces text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT left('user:' || p_user, 512) UNION SELECT left('space:' || s.id, 512) FROM unnest(p_spaces) AS s (id) ORDER BY 1);

COMMENT ON FUNCTION mana_ai.sync_feeds_of IS
'The feeds that hold what a person may read: their own rows, and each space''s. note_rows names them the same way.';
ALTER FUNCTION mana_ai.sync_feeds_of OWNER TO mana_owner;
GRANT EXECUTE ON FUNCTION mana_ai.sync_feeds_of TO mana_router;
