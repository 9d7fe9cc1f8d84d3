"""What callers send to the router and what they get back."""
