"""The life of a run: its occurrence, whether it may run, how it ends and what follows."""
