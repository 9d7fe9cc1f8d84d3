"""`/api/v1/me/*`: what people ask about their own."""
