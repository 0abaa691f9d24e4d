"""Peers: pairing by a code, and terms that are proposed, shown in plain words, and accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from tallystick.node import queries
from tallystick.node.console.rendering import qr, url
from tallystick.node.console.visits import Page, Visit, go_to
from tallystick.node.founding import party_keys
from tallystick.protocol.errors import InputError, InvalidRecord, UnknownName
from tallystick.protocol.terms import check_terms, describe_terms, parse_terms

LIFETIMES = {"1h": 3_600, "1d": 86_400, "7d": 604_800}

_TEMPLATE = """\
provider = "{provider}"
consumer = "{consumer}"

[period]
calendar  = "month"            # hour | day | week | month
time_zone = "UTC"              # an IANA name, as in Europe/Berlin

[clocks]
grace   = "3d"                 # a period may be closed this long after its end
dispute = "15d"                # what is not disputed by then is accepted
answer  = "29d"                # a dispute not answered by then is upheld

[meters.output-tokens]
unit      = "token"
source    = "provider"         # who records it: provider | consumer | both
tolerance = {{ relative = "0.5%", absolute = "1000" }}
"""


async def _list(visit: Visit) -> Response:
    world = visit.world
    live = await world.service.live()
    channels = queries.channels(world.node.books)
    return await visit.render(
        "peers.html",
        peers=queries.peers(world.node.books, live),
        channels=[one for one in channels if one["state"] in ("open", "halted")],
        proposals=[one for one in channels if one["state"] in ("offered", "proposed")],
        address=live["address"],
        done=visit.asked("done"),
        joined=visit.asked("joined"),
    )


async def _invite(visit: Visit) -> Response:
    lifetime = LIFETIMES.get(visit.form.text("lifetime"))
    if lifetime is None:
        raise InputError("choose how long the code works")
    answer = await visit.world.service.invite(lifetime)
    until = datetime.fromtimestamp(answer["expires_at"], UTC)
    return await visit.render(
        "invite.html",
        code=answer["code"],
        drawing=qr(answer["code"]),
        until=f"{until:%Y-%m-%d %H:%M} UTC",
        address=answer["address"],
    )


async def _join(visit: Visit) -> Response:
    code = "".join(visit.form.text("code").split())
    if not code:
        raise InputError("no code was given", "Paste the code that your counterparty made")
    answer = await visit.world.service.join(code)
    return go_to(url("peers", joined=answer["peer"]))


async def _ask_terms(visit: Visit) -> Response:
    books = visit.world.node.books
    peer = books.peer(visit.request.path_params["peer"])
    source = _TEMPLATE.format(provider=books.identity.name, consumer=peer.name)
    return await visit.render("propose.html", peer=peer.name, source=source, words=None, fault="")


async def _propose(visit: Visit) -> Response:
    """First shows the terms in plain words; the second form on that page proposes them."""
    books, service = visit.world.node.books, visit.world.service
    peer = books.peer(visit.request.path_params["peer"])
    source = visit.form.text("source")
    try:
        raw = source.encode()
    except UnicodeEncodeError:
        raise InputError("the terms are not UTF-8") from None
    if visit.form.text("sure") == "yes":
        answer = await service.propose(raw, peer.name)
        return go_to(url("proposals", answer["channel"], done="proposed"))
    parties = {who.name: party_keys(who) for who in (books.identity, peer)}
    values: dict[str, Any] = {"peer": peer.name, "source": source, "words": None, "fault": ""}
    try:
        terms = parse_terms(raw, parties, bytes(16))  # their number is drawn when they are proposed
        check_terms(terms)
    except (InputError, InvalidRecord) as error:
        return await visit.render("propose.html", 400, **values | {"fault": str(error)})
    return await visit.render("propose.html", **values | {"words": describe_terms(terms)})


async def _show_proposal(visit: Visit) -> Response:
    founding = visit.world.node.books.founding
    text = visit.request.path_params["proposal"]
    key = next((key for key in founding.rows if key.hex() == text), None)
    if key is None:
        raise UnknownName("there is no such proposal", "See the list of peers")
    row = founding.rows[key]
    if row.state in ("open", "halted"):
        return go_to(url("channels", text))
    peering = visit.world.node.peering
    return await visit.render(
        "proposal.html",
        id=text,
        peer=row.peer,
        state=row.state,
        words=describe_terms(founding.terms_of(key)),
        held=key in peering.held,
        refused=peering.refused.get(key, ""),
        done=visit.asked("done"),
    )


async def _accept(visit: Visit) -> Response:
    if visit.form.text("sure") != "yes":
        raise InputError("the box was not ticked", "Tick it to sign the terms")
    answer = await visit.world.service.accept(visit.request.path_params["proposal"])
    return go_to(url("channels", answer["channel"]))


PAGES = (
    Page("GET", "/peers", "read", _list),
    Page("POST", "/peers/invite", "admin", _invite),
    Page("POST", "/peers/join", "admin", _join),
    Page("GET", "/peers/{peer}/propose", "admin", _ask_terms),
    Page("POST", "/peers/{peer}/propose", "admin", _propose),
    Page("GET", "/proposals/{proposal}", "read", _show_proposal),
    Page("POST", "/proposals/{proposal}/accept", "admin", _accept),
)
