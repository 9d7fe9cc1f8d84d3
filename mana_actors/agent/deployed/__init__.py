"""Tools that a deployment adds in one file of its own; each call is a process without a past."""
