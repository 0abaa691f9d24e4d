"""Gossip in a running node: who we are, what we publish, and what we make of what we hear."""
