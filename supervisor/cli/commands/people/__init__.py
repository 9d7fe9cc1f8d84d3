"""Who may sign in, by what, and what they share: for operators, and for oneself."""
