"""What people read of their own: their records, and what became of their missions."""
