"""The way to a language model: the provider interface, its HTTP client, the rehearsal model."""
