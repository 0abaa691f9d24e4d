"""The node's HTTP interface: on the home's Unix socket, and on loopback TCP with bearer keys."""
