"""Witnesses: asking others to co-sign our heads, and co-signing heads of others."""
