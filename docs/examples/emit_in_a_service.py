"""A service that counts what its requests use and never waits for its node, unless it must."""

import os
from concurrent.futures import ThreadPoolExecutor

from tallystick.client import Client, Refusal


def refused(refusal: Refusal) -> None:
    """The node did not take a delta. This is a mistake of ours: log it, and mend it."""
    print(f"refused {refusal.delta.id}: {refusal.message}")


client = Client(
    os.environ["TALLYSTICK_URL"], key=os.environ["TALLYSTICK_KEY"], channel="beta.example"
)
batcher = client.batcher(queue_max=10_000, on_refused=refused)


def serve(request: int) -> None:
    """Answer a request and count its tokens. With an id of its own, a retry counts once."""
    batcher.emit("context-tokens", 100 + request, subject="project-7", id=f"req-{request}")


with ThreadPoolExecutor(8) as threads:
    list(threads.map(serve, range(1000)))
batcher.emit("no-such-meter", 1, subject="project-7", id="mistake-1")

stats = batcher.close()
client.close()
print(f"{stats.recorded} recorded, {stats.refused} refused, {stats.queued} left")
