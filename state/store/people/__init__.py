"""People who sign in here, what lets them in, and the spaces they share."""
