"""Tools that only read: their records, what each tells of them, and how it reaches the model."""
