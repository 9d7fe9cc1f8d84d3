-- What claims asked twice and comparing commits need. The feed gets the space of a shared row: a commit must hear of members'
-- rows that are not folded yet without looking at every user's record of the same name. mana_ai.feed_changes(), which fills
-- it from now on, is put before.
SET LOCAL ROLE mana_owner;

ALTER TABLE mana_ai.runs ADD COLUMN claim_id uuid;
ALTER TABLE mana_ai.change_feed ADD COLUMN space_id text;
GRANT UPDATE (space_id) ON mana_ai.change_feed TO mana_router;
SET LOCAL ROLE mana_router;
UPDATE mana_ai.change_feed AS f SET space_id = c.space_id FROM mana_ai.router_log AS c
 WHERE c.id = f.change_id AND mana_ai.is_shared(c.space_id);
SET LOCAL ROLE mana_owner;
REVOKE UPDATE (space_id) ON mana_ai.change_feed FROM mana_router;

RESET ROLE;
