"""tally reconcile: find with a peer the rows in which two private files differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.durations import seconds
from tallystick.node.cli.output import Progress, folded, print_json, say, table
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.reconciling.sets import PreparedSet

POLL_SECONDS = 0.2


@verb("reconcile")
@click.argument("words", nargs=-1, metavar="[PEER] [FILE]")
@click.option("--period", help="The period, as in 2026-10.")
@click.option(
    "--map",
    "mapping_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which columns mean what (TOML).",
)
@click.option("--offer", is_flag=True, help="Consent to a session that the peer begins.")
@click.option("--wait", is_flag=True, help="With --offer: until a session used it.")
@click.option("--expires", default="7d", show_default=True, help="How long an offer stands.")
@click.option(
    "--open",
    "opens_max",
    default=10_000,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="How many rows of ours the peer may be shown at most.",
)
@click.option(
    "--by",
    type=click.Choice(["id", "content"]),
    help="How rows are compared (default: by id if one is mapped).",
)
@click.option(
    "--resolution",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.000001, 86_400),
    help="Without ids: to how many seconds times are compared.",
)
@click.option("--list", "list_", is_flag=True, help="Sessions that were, and offers that stand.")
@click.option("--show", metavar="SESSION", help="The result of a session, again.")
@click.option("--withdraw", metavar="OFFER", help="Take back an offer.")
def command(
    context: Context,
    words: tuple[str, ...],
    period: str | None,
    mapping_file: Path | None,
    offer: bool,
    wait: bool,
    expires: str,
    opens_max: int,
    by: str | None,
    resolution: float,
    list_: bool,
    show: str | None,
    withdraw: str | None,
) -> None:
    """Find the rows of FILE that differ from those of PEER's file, which neither log holds.

    Both nodes find them over the wire; nothing but the rows that differ is shown. The peer consents
    with: tally reconcile --offer FILE --period PERIOD --map MAP
    """
    if list_:
        _list(context)
        return
    if show is not None:
        _show(context, show)
        return
    if withdraw is not None:
        answer = context.call("reconcile_withdraw", name=withdraw)
        print_json(answer) if context.json else say(f"Withdrawn: {answer['offer'][:8]}")
        return
    file = _file(context, words, offer)
    if period is None or mapping_file is None:
        raise InputError("--period and --map are needed", "As in --period 2026-10 --map map.toml")
    expires_at_s = int(time.time()) + seconds(expires) if offer else 0
    prepared = _prepare(
        context, file, period, mapping_file, opens_max, by, resolution, expires_at_s
    )
    if offer:
        _offer(context, prepared, wait)
    else:
        _reconcile(context, prepared)


def _file(context: Context, words: Sequence[str], offer: bool) -> Path:
    """The file; the peer that is named with it chooses the channel."""
    if len(words) == 2:
        peer, file = words
        if context.channel is None:
            context.channel = peer
        else:
            _check_peer(context, peer)
    elif len(words) == 1 and offer:
        file = words[0]
    else:
        what = "[PEER] FILE" if offer else "PEER FILE"
        raise InputError(f"{what} expected, {len(words)} words came", "See: tally reconcile --help")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path


def _check_peer(context: Context, peer: str) -> None:
    """Refuse a peer that is not that of the channel which `--channel` names."""
    with context.books() as books:
        key = books.select(context.channel)
        if peer != books.founding.rows[key].peer and not key.hex().startswith(peer):
            raise InputError(
                f"the channel {key.hex()[:8]} is not with {peer}", "See: tally channels"
            )


def _prepare(
    context: Context,
    file: Path,
    period: str,
    mapping_file: Path,
    opens_max: int,
    by: Any,
    resolution: float,
    expires_at_s: int,
) -> PreparedSet:
    from tallystick.node.reconciling.preparing import Request, prepare

    request = Request(
        str(file.absolute()),
        str(mapping_file.absolute()),
        period,
        opens_max,
        by,
        round(resolution * 1_000_000),
        expires_at_s,
    )
    with context.books() as books, Progress(f"reading {file.name}", file.stat().st_size) as bar:
        channel, _ = books.channels[books.select(context.channel)]
        prepared = prepare(
            context.open_home().path,
            channel,
            request,
            lambda rows, size: bar.update(size, f"{rows:,} rows"),
        )
    about = prepared.about
    kind = "by id" if about.by == "id" else f"by content, to {about.resolution_us / 1e6:g} s"
    context.hint(f"{about.rows:,} rows of {about.period}, compared {kind}")
    if about.rejected:
        said = f"{about.rejected:,} rows cannot be read; the first: {about.first_reject}"
        context.hint(folded(said, 2))
    return prepared


def _offer(context: Context, prepared: PreparedSet, wait: bool) -> None:
    about = prepared.about
    try:
        answer = context.call("reconcile_offer", name=prepared.name)
    except BaseException:
        prepared.remove()
        raise
    until = datetime.fromtimestamp(about.expires_at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if not wait:
        if context.json:
            print_json(answer)
        else:
            said = f"Offered to {about.peer} until {until}: {about.rows:,} rows of {about.period},"
            say(folded(f"{said} of which at most {about.opens_max:,} may be shown to it.", 2))
        return
    context.hint(f"Waiting for {about.peer}, until {until}")
    while True:
        session = context.call("reconcile_session_of", name=prepared.name)["session"]
        if session:
            _follow(context, session)
            return
        if time.time() > about.expires_at_s:
            raise InputError("the offer has expired", f"{about.peer} did not ask")
        time.sleep(POLL_SECONDS)


def _reconcile(context: Context, prepared: PreparedSet) -> None:
    try:
        answer = context.call("reconcile", channel=context.channel, name=prepared.name)
    except BaseException:
        prepared.remove()
        raise
    _follow(context, answer["session"])


def _follow(context: Context, session: str) -> None:
    """Tell how a session goes, and its result."""
    told = ""
    while True:
        state = context.call("reconcile_state", session=session)
        said = state["step"]
        if state["rows_theirs"] is not None and said != "done":
            said += f" ({state['rows_ours']:,} rows here, {state['rows_theirs']:,} there)"
        if said != told and not state["ended"]:
            context.hint(said)
            told = said
        if state["ended"]:
            break
        time.sleep(POLL_SECONDS)
    if state["stopped"]:
        from tallystick.protocol.errors import SessionStopped

        opened = state["opened"]
        advice = f"{opened:,} rows had been opened: tally reconcile --show {state['name'][:8]}"
        raise SessionStopped(state["stopped"], advice if opened else state["advice"])
    _show(context, state["name"])


def _show(context: Context, prefix: str) -> None:
    """Print a session's result; exit with 1 if the terms do not tolerate the difference."""
    from tallystick.node.reconciling import kept
    from tallystick.node.reconciling.report import render_result
    from tallystick.node.reconciling.result import result_of

    folder = kept.find(context.open_home().path, prefix)
    with context.books() as books:
        channel, _ = books.channels[bytes.fromhex(kept.load(folder).about.channel)]
        result = result_of(channel, folder)
    if context.json:
        print_json(result.document())
    else:
        say(render_result(result))
    if not result.comparison.within_tolerance:
        raise SystemExit(1)


def _list(context: Context) -> None:
    import msgspec

    from tallystick.node.reconciling import kept

    home = context.open_home()
    ended = [kept.load(path) for path in kept.sessions(home.path)]
    offers = context.ask("reconcile_offers") or []
    if context.json:
        sessions = [msgspec.to_builtins(one) for one in ended]
        print_json({"sessions": sessions, "offers": offers})
        return
    if not ended and not offers:
        say("No session was held, and no offer stands.")
    if ended:
        table(
            ["session", "on", "peer", "period", "shown", "seen", "result"],
            [
                [
                    one.session[:8],
                    one.ended_at[:10],
                    one.about.peer,
                    one.about.period,
                    f"{one.opened_ours:,}",
                    f"{one.opened_theirs:,}",
                    "stopped" if one.reason else "whole",
                ]
                for one in ended
            ],
        )
    if offers:
        table(
            ["offer", "until", "peer", "period", "rows", "to show"],
            [
                [
                    offer["offer"][:8],
                    offer["expires_at"][:10],
                    offer["peer"],
                    offer["period"],
                    f"{offer['rows']:,}",
                    f"{offer['opens_max']:,}",
                ]
                for offer in offers
            ],
        )
