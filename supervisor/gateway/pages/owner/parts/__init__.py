"""What the pages of an agent and a mission are made of, part by part."""
