"""The node process: what it starts, which files and settings it has, and whether all is well."""
