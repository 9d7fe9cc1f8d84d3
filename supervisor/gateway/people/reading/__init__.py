"""What people read of their own: plans and runs, what happens just now, and their data."""
