"""Follow what happens at the node, and go on after a restart where one left off."""

import os
from pathlib import Path

from tallystick.client import Client

seen = Path(os.environ["CURSOR_FILE"])
after = int(seen.read_text()) if seen.exists() else None  # the first time: from now on

with Client(os.environ["TALLYSTICK_URL"], key=os.environ["TALLYSTICK_KEY"]) as client:
    for event in client.events(after, kinds=["delta.cosigned", "checkpoint.*", "dispute.*"]):
        print(f"{event.at} {event.peer}: {event.said}", flush=True)
        seen.write_text(str(event.cursor))
        if event.kind == os.environ.get("UNTIL"):
            break
