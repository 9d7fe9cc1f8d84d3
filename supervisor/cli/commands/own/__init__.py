"""Commands by which people do things for themselves, or an operator in their place."""
