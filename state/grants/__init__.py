"""Who may read which encrypted records until when, and how they agreed to it."""
