"""Reconciling: the rows of private exports, sessions with a peer, and what is kept of them."""
