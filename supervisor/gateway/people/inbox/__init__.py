"""Plans put to their owners: proposals and what is always approved, over HTTP."""
