"""What a supervisor reads and writes, as the role `mana_supervisor`."""
