"""Pages, rendered here, for owners and for operators; nothing is loaded from elsewhere."""
