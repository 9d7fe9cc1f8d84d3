-- What a person may look at of the log: their own rows, and those of the spaces that the gateway names beside them. The log's own
-- policies for mana_owner say the same; this one filters by itself, too.
SET LOCAL ROLE mana_owner;
CREATE VIEW mana_ai.own_log AS
SELECT id, app_id, table_name, record_id, user_id, op, data, field_meta, client_id, created_at, actor, origin, space_id
  FROM mana_ai.log_rows
 WHERE user_id = current_setting('app.current_user_id', true)
    OR space_id = ANY (string_to_array(current_setting('app.current_user_space_ids', true), ','));
GRANT SELECT ON mana_ai.own_log TO mana_gateway;
RESET ROLE;
