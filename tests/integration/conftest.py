"""Integration tests use real Postgres servers; tests/conftest.py says which."""
