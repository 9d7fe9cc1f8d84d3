CREATE OR REPLACE FUNCTION mana_ai.stamp_now(p_floor text) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN greatest(p_floor COLLATE "C", to_char(date_trunc('milliseconds', clock_timestamp() + interval '999 microseconds')
                AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') COLLATE "C");

COMMENT ON FUNCTION mana_ai.stamp_now IS
'The stamp of what is written now: the clock, rounded up to whole milliseconds, or p_floor where that is later. Both are
written alike, so the later text is the later instant.';
ALTER FUNCTION mana_ai.stamp_now OWNER TO mana_owner;
