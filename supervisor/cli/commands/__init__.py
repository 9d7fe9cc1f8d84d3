"""What is typed after `mana`: one module per group of commands."""
