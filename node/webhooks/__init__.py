"""Webhooks: events sent to endpoints over HTTP, signed, in order, again until they arrive."""
