"""What a model's text says once its protocol is taken out: words for a person, and calls."""
