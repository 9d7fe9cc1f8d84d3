"""A zoo of model services: what each refuses, how it answers, what it bills, as published."""
