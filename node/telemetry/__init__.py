"""What a node says of itself to whoever runs it: its log, its metrics, its health."""
