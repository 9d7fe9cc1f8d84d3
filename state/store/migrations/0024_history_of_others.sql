-- sync_history is told which client pushes; a function of other arguments would stand beside the old one.
SET ROLE mana_owner;
DROP FUNCTION IF EXISTS mana_ai.sync_history(text, text[], text, jsonb, int);
RESET ROLE;
