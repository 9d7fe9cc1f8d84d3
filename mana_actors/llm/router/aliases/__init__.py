"""What a model's name stands for: the alias file and the table made of it."""
