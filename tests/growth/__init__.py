"""Whether what reads texts of strangers takes time in proportion to them."""
