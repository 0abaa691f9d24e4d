"""A way between two nodes that counts the bytes that pass, either way."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

CHUNK_BYTES = 65536


class Tollgate:
    """Listens on a port of its own, and passes all on to `target` until it is closed."""

    def __init__(self, target: str) -> None:
        self.inward = 0  # bytes that the target sent
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            far = socket.create_connection((host, int(port)))
        except OSError:
            near.close()
            return
        threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
        self._pass(far, near, count=True)

    def _pass(self, source: socket.socket, sink: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self.inward += len(data) if count else 0
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()
