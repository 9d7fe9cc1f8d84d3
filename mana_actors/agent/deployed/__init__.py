"""Tools that a deployment adds in one file of its own; each call runs in a fresh process."""
