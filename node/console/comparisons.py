"""Comparing a file of one's own with a period, from the upload to the waterfall."""

from __future__ import annotations

from typing import Any

import trio
from starlette.responses import FileResponse, HTMLResponse, Response

from tallystick.node.channel import Channel
from tallystick.node.comparing.words import alike, headline, kind_name
from tallystick.node.console.comparing import Job
from tallystick.node.console.falls import comparison_of, falls
from tallystick.node.console.rendering import drawing, ungrouped, url
from tallystick.node.console.visits import Page, Visit, file_headers, go_to
from tallystick.protocol.errors import InputError, UnknownName

WAIT_SECONDS = 8  # for a small file, so that its result is the next page


async def _begin(visit: Visit) -> Response:
    channel, _ = visit.channel()
    period = channel.own.folder.calendar.parse(visit.request.path_params["period"]).label
    upload = visit.form.files.get("file")
    mapping = visit.form.text("mapping")
    if upload is None or not mapping.strip():
        raise InputError("a file and its mapping are needed", "Choose both on the period's page")
    world = visit.world
    job = await visit.desk.comparisons.begin(channel.id, period, upload, mapping, world.nursery)
    with trio.move_on_after(WAIT_SECONDS):
        await job.done.wait()
    return go_to(url("comparisons", job.id))


def _job(visit: Visit) -> Job:
    return visit.desk.comparisons.find(visit.request.path_params["job"])


async def _show(visit: Visit) -> Response:
    job = _job(visit)
    channel, _ = visit.world.node.books.channels[job.channel]
    values: dict[str, Any] = {"state": "running"}
    if job.done.is_set():
        values = {"state": "failed"} if job.fault else _result(job, channel)
    peer = channel.peer.party.name
    return await visit.render_live(
        "comparison.html", job=job, channel=channel.id.hex(), peer=peer, **values
    )


def _result(job: Job, channel: Channel) -> dict[str, Any]:
    """What a comparison came to."""
    us, them = channel.own.party.name, channel.peer.party.name
    comparison = comparison_of(job, channel.terms, us, them)
    causes = [
        (", ".join(map(str, numbers)), kind_name(cause).capitalize(), cause.confidence, cause.says)
        for numbers, cause in alike(comparison.causes)
    ]
    return {
        "state": "done",
        "said": ungrouped(headline(comparison)),
        "within": comparison.within_tolerance,
        "rejected": comparison.rejected,
        "falls": [(fall, drawing(fall.drawing)) for fall in falls(comparison)],
        "causes": causes,
    }


async def _page(visit: Visit) -> Response:
    """The report that `tally compare --html` wrote; its own policy allows its style alone."""
    job = _job(visit)
    if not job.page.exists():
        raise UnknownName("this comparison has no report", "See the comparison's page")
    text = job.page.read_text("utf-8")
    policy = text.partition('content="')[2].partition('"')[0].replace("&#x27;", "'")
    headers = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
    return HTMLResponse(text, headers=headers)


async def _events(visit: Visit) -> Response:
    job = _job(visit)
    if job.events is None:
        raise UnknownName("this comparison has no events", "See the comparison's page")
    name = f"{job.file_name}.{job.period}.events.csv"
    return FileResponse(job.events, headers=file_headers(name), media_type="text/csv")


PAGES = (
    Page("POST", "/channels/{channel}/periods/{period}/compare", "read", _begin),
    Page("GET", "/comparisons/{job}", "read", _show),
    Page("GET", "/comparisons/{job}/report", "read", _page),
    Page("GET", "/comparisons/{job}/events", "read", _events),
)
