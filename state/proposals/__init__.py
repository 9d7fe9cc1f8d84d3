"""What becomes of a plan: proposals, their answers, and what carrying one out writes. Pure."""
