"""A world of thousands of nodes that gossip with the real engine, on a clock of its own."""
