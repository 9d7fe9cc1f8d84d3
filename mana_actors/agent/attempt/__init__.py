"""One attempt at one occurrence, from its order to its ending."""
