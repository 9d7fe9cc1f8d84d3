-- Operators see what needs somebody first: missions that cannot go on by themselves are found without reading all of them.
SET ROLE mana_owner;
CREATE INDEX mission_snapshots_in_trouble ON mana_ai.mission_snapshots (decision, user_id, mission_id)
  WHERE state = 'active' AND NOT hidden
    AND decision IN ('failed', 'skipped-budget', 'skipped-grant', 'skipped-unreadable', 'skipped-missing-agent', 'skipped-inputs');
CREATE INDEX mission_snapshots_damaged ON mana_ai.mission_snapshots (user_id, mission_id)
  WHERE problems <> '{}' OR NOT complete OR NOT readable;
RESET ROLE;
