"""What the gateway reads and writes for operators and copies, as the role `mana_gateway`."""
