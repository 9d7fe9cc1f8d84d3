"""What a client holds by itself: its store, how it writes there, and what it shows."""
