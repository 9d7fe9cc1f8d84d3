"""Forms on which owners make things."""
