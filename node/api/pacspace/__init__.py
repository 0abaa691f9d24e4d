"""The REST interface that the PacSpace client speaks, on this node's channels."""
