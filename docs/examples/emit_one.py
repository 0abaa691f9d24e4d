"""Record one delta and wait until the other company's node has co-signed it."""

import os

from tallystick.client import Client

with Client(
    os.environ["TALLYSTICK_URL"], key=os.environ["TALLYSTICK_KEY"], channel="beta.example"
) as client:
    receipt = client.emit("context-tokens", 374, subject="project-7", id="request-4711")
    print(f"recorded at {receipt.index}: safe on our side")
    client.wait_cosigned(receipt, seconds=30)
    print("co-signed: safe on theirs")
