"""Many devices of one person, broken networks and wrong clocks: in the end all say the same."""
