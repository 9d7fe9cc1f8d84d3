"""What all who ask other services share."""
