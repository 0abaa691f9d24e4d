"""Send CloudEvents, made by the specification's own package, to a node that has a rule for them."""

import os
from datetime import UTC, datetime

import httpx
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

event = CloudEvent(
    {
        "specversion": "1.0",
        "id": "4711",
        "source": "https://acme.example/gateway",
        "type": "com.acme.inference.done",
        "time": datetime(2026, 11, 2, 9, 14, tzinfo=UTC),
        "subject": "project-7",
    },
    {"usage": {"context": 374, "generated": 12}},
)
message = to_structured_event(event)
answer = httpx.post(
    f"{os.environ['TALLYSTICK_URL']}/v1/cloudevents",
    content=message.body,
    headers={**message.headers, "Authorization": f"Bearer {os.environ['TALLYSTICK_KEY']}"},
)
answer.raise_for_status()  # 202: it is on the node's disk
print(answer.json()["state"])
