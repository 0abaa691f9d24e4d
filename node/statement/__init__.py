"""The statement of a period as people read it: one model, rendered as PDF and as HTML."""
