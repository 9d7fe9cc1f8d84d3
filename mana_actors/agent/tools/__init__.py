"""What a model may ask for, and whether what it asked for is acceptable."""
