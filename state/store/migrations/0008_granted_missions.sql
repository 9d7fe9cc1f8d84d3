-- Whether any mission has a grant is asked every few seconds, and must not cost a look at every record.
SET LOCAL ROLE mana_owner;
CREATE INDEX mission_snapshots_granted ON mana_ai.mission_snapshots (bucket) WHERE record -> 'grant' <> 'null'::jsonb AND NOT hidden;
RESET ROLE;
