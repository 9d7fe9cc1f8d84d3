-- Operators' sessions whose time is over went with the next that began, so the last ones' addresses stayed.
SET ROLE mana_owner;
CREATE POLICY janitor_prunes ON mana_ai.operator_sessions TO mana_janitor USING (true);
GRANT SELECT (ends_at), DELETE ON mana_ai.operator_sessions TO mana_janitor;
RESET ROLE;
