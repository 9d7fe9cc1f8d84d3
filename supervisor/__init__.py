"""Who runs when and where, and how people see it."""

__version__ = "0.1.0"
