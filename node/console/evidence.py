"""Evidence: what convicts a party, in words, and as the file that convinces anybody offline."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.node.accusing import kept
from tallystick.node.console.visits import Page, Visit, attachment
from tallystick.protocol.errors import UnknownName
from tallystick.protocol.evidence import verify_evidence


async def _list(visit: Visit) -> Response:
    books = visit.world.node.books
    found = []
    for key, (channel, _) in books.channels.items():
        for one in kept(channel):
            checks = verify_evidence(one.data)
            found.append(
                {
                    "channel": key.hex(),
                    "peer": channel.peer.party.name,
                    "accused": one.evidence.accused.party,
                    "part": one.evidence.accused.part,
                    "digest": one.digest.hex(),
                    "sizes": [noted.head.size for noted in one.evidence.heads],
                    "says": checks[-1].detail,
                    "holds": all(check.ok for check in checks),
                    "checks": checks,
                    "text": one.data.decode("utf-8", "replace"),
                }
            )
    return await visit.render("evidence.html", found=found)


async def _file(visit: Visit) -> Response:
    digest = visit.request.path_params["digest"]
    for channel, _ in visit.world.node.books.channels.values():
        for one in kept(channel):
            if one.digest.hex() == digest:
                return attachment(one.data, f"{one.name}.evidence", "text/plain")
    raise UnknownName("there is no such evidence here", "See the list")


PAGES = (
    Page("GET", "/evidence", "read", _list),
    Page("GET", "/evidence/{digest}", "read", _file),
)
