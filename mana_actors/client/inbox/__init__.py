"""Proposals where their owner is: listed and answered also offline, carried out once."""
