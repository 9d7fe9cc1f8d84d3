"""What a failure of a model service means: one table, with the wordings of those who fail."""
