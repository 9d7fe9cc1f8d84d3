"""Who is asked in which order, and what a failure means for the next."""
