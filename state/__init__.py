"""What is true: records, the rules that combine them, and the door to Postgres."""

DISTRIBUTION = "mana-actors"  # says whose files these are: mana_actors/command.py
