"""Errors of the world outside: children of `WorldError`, and of `InputError` for a home's state."""

from __future__ import annotations

from tallystick.protocol.errors import InputError, WorldError


class NodeUnreachable(WorldError):
    """No node is running in this home, or it does not answer."""


class PeerUnreachable(WorldError):
    """The peer's node cannot be reached or is not who it should be."""


class Unanswered(WorldError):
    """Who is called over HTTP cannot be reached, or does not answer in time."""


class PairingError(WorldError):
    """A pairing did not come about; nothing was stored on either side."""


class StoreError(WorldError):
    """The store could not read or write; nothing that was acknowledged is lost."""


class NodeStops(StoreError):
    """The node stops: nothing is written any more, and who waits is told that it was not."""


class ArchiveError(StoreError):
    """A file of an archive is missing or altered, or the archive cannot be reached.

    The message names the file; nothing of it was believed.
    """


class ClusterError(WorldError):
    """Workers could not be started or reached, or did not do their work."""


class HomeError(InputError):
    """A home is missing, already there, locked, or written by a newer version."""


class CursorError(InputError):
    """A cursor of the feed is too old, or of another feed."""


class EndpointError(InputError):
    """There is no such webhook endpoint, or its address is not one to send to."""
