"""What the log says: rows, stamps and authors, and how rows become missions and agents."""
