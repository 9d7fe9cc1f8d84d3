-- Proposals expire though nobody looks: whoever stages plans asks which are late, of all people (late_proposals). That function
-- belongs to mana_owner, which saw no proposal before; of those that wait and are late it sees whose they are.
CREATE INDEX proposals_late ON mana_ai.proposals (expires_at) WHERE state IN ('pending', 'refused');
CREATE POLICY owner_finds_late ON mana_ai.proposals FOR SELECT TO mana_owner
  USING (state IN ('pending', 'refused') AND expires_at <= clock_timestamp());
