"""Keep what the node has not acknowledged when a service must end, and send it the next time."""

import json
import os
from pathlib import Path

import msgspec

from tallystick.client import Client, Delta, Undelivered

kept = Path(os.environ["SPOOL"])

with Client(
    os.environ["TALLYSTICK_URL"], key=os.environ["TALLYSTICK_KEY"], channel="beta.example"
) as client:
    batcher = client.batcher()
    if kept.exists():
        for fields in json.loads(kept.read_text()):
            batcher.put(msgspec.convert(fields, Delta))
    else:
        batcher.emit("context-tokens", 12, subject="project-9", id="kept-1")
    try:
        batcher.close(timeout=2)
    except Undelivered as error:
        # A delta keeps its id and its time, so that sending it again is never another delta.
        kept.write_text(json.dumps([msgspec.to_builtins(delta) for delta in error.deltas]))
        print(f"kept {len(error.deltas)}: {error.cause}")
    else:
        kept.unlink(missing_ok=True)
        print("all acknowledged")
