-- What the key holder runs: it sees no table, and whose row it is comes from the capability it was shown.

-- granted_mission --
SELECT * FROM mana_ai.granted_mission($1, $2, $3)

-- note_release --
SELECT mana_ai.note_release(:run, :attempt, :mission, :outcome, :reason, :version, :records, :expires)
