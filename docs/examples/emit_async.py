"""The same in an asynchronous service; it runs on trio as well as on asyncio."""

import os
import sys

import anyio

from tallystick.client import AsyncBatcher, AsyncClient


async def serve(batcher: AsyncBatcher, request: int) -> None:
    """Answer a request and count its tokens."""
    await batcher.emit("context-tokens", request, subject="project-8", id=f"async-{request}")


async def main() -> None:
    """Emit a thousand deltas from as many tasks."""
    url, key = os.environ["TALLYSTICK_URL"], os.environ["TALLYSTICK_KEY"]
    async with AsyncClient(url, key=key, channel="beta.example") as client:
        async with client.batcher() as batcher, anyio.create_task_group() as group:
            for request in range(1000):
                group.start_soon(serve, batcher, request)
        print(f"{batcher.stats.recorded} recorded")


anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
