"""Two real nodes under load that are killed at random moments, and what must be true after it."""
