"""How people get in: whose request one is, and where no other auth service does it, signing in."""
