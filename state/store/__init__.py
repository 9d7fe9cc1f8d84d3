"""The door to Postgres."""
