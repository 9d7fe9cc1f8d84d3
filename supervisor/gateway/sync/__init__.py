"""`/sync/*`: what people's devices push, pull and listen to."""
