"""What is allowed: tools, tokens, how far a prompt travels, what a login reaches."""
