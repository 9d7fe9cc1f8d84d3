"""Golden cases computed by the original programs, and the runner that compares us with them."""
