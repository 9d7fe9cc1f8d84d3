"""Pages for operators, rendered here, nothing loaded from elsewhere."""
