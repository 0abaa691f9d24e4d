"""One question to a witness over HTTP."""

from __future__ import annotations

from tallystick.node.calling import Caller, trusting
from tallystick.node.config import Witnessing
from tallystick.node.witnessing.asked import Asked
from tallystick.protocol.errors import FormatError
from tallystick.protocol.witness import (
    ANSWER_BYTES_MAX,
    AddCheckpoint,
    Behind,
    Cosigned,
    format_request,
    read_answer,
)

PARALLEL = 4  # questions to one witness at once


class Asker(Caller):
    """What asks one witness."""

    def __init__(self, asked: Asked, settings: Witnessing) -> None:
        super().__init__(
            trusting(settings.ca_file, "witnessing.ca_file"),
            parallel=PARALLEL,
            idle_seconds=60.0,
            loopback_only=asked.url.startswith("http:") and not settings.allow_http,
        )
        self._asked = asked
        self._seconds = settings.timeout_seconds

    async def ask(self, request: AddCheckpoint) -> tuple[Cosigned, ...] | Behind:
        """What the witness says to a checkpoint, as `read_answer` gives it; `Unanswered` if nothing
        comes back.
        """
        url, headers = f"{self._asked.url}/add-checkpoint", {"Content-Type": "text/plain"}
        answer = await self.post(url, headers, format_request(request), self._seconds)
        if not answer.whole:
            raise FormatError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
        kind = answer.headers.get(b"content-type", b"").decode("latin-1")
        text, vkeys = request.checkpoint.text, self._asked.vkeys
        return read_answer(answer.status, kind, answer.body, text, vkeys)
