-- What the supervisor does for many passes over rows that somebody holds: that takes the right to lock them.
SET LOCAL ROLE mana_owner;
GRANT UPDATE (deadline) ON mana_ai.token_holds TO mana_supervisor;
RESET ROLE;
