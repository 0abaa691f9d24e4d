"""What happens in a node, as a durable list in order, with a cursor to resume from."""
