"""`mana demo`: a whole installation of its own, and people whose missions it plans."""
