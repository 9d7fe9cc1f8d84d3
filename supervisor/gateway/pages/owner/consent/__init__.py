"""Consent: what missions may open, who looked at what, and which operators opened texts."""
