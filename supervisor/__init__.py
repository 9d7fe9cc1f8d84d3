"""Who runs when and where, and how people see it."""

__version__ = "0.1.0"
DISTRIBUTION = "mana-actors"  # says whose files these are: mana_actors/command.py
