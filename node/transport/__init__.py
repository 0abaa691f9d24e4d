"""TLS between nodes."""
