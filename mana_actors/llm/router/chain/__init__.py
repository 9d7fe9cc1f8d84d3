"""Which entries of a chain may be called, and what follows when one fails."""
