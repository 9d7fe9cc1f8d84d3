"""What each process does: one folder per kind of process, a pure core and a thin shell in each."""
