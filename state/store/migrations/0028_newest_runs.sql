-- The fleet's list of runs, whole or of one state, begins with the newest, and health counts those that failed in the last hour: each of
-- these read every run there ever was.
SET ROLE mana_owner;
CREATE INDEX runs_newest ON mana_ai.runs (opened_at DESC, run_id DESC);
CREATE INDEX runs_newest_of_state ON mana_ai.runs (state, opened_at DESC, run_id DESC);
CREATE INDEX runs_failed ON mana_ai.runs (closed_at) WHERE state = 'failed';
RESET ROLE;
