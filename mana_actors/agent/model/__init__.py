"""Calls to the model: held, answered, charged, kept for a retry."""
