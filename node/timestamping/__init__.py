"""Timestamps: an authority outside is asked when a checkpoint existed, and its answers are kept."""
