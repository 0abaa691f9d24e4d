"""Auditing: whole logs verified in pieces, on as many processes or machines as there are."""
