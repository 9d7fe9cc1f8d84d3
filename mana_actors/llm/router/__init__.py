"""The LlmRouter: aliases, provider health, fallback, and the HTTP API that everybody uses."""
