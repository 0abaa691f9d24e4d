"""A way between two nodes that counts the bytes that pass, and holds them when told to."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Thread

CHUNK_BYTES = 65536


class Tollgate:
    """Listens on a port of its own, and passes all on to and from `target` until it is closed."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.passed = 0  # bytes that the target sent
        self._target = (host, int(port))
        self._open, self._gone = Event(), False
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._threads.append(Thread(target=self._serve, args=(near,)))
                self._threads[-1].start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            self._ends += [near, far]
            other = Thread(target=self._pass, args=(near, far))
            other.start()
            self._pass(far, near, count=True)
            other.join()

    def _pass(self, source: socket.socket, sink: socket.socket, *, count: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if count:
                    self._open.wait()
                    if self._gone:
                        break
                    self.passed += len(data)
                sink.sendall(data)
        _shut(source)
        _shut(sink)

    def hold(self) -> None:
        """Let nothing through from the target until it is closed; then it is lost."""
        self._open.clear()

    def close(self) -> None:
        """Let nobody in any more, end what is under way, and wait until that is over."""
        self._gone = True
        self._open.set()
        for one in (self._listener, *self._ends):
            _shut(one)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
