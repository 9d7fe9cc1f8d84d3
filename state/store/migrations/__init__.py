"""The numbered SQL files that made today's database, in order."""
