"""tally status: how each channel stands."""

from __future__ import annotations

from typing import Any

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.node.cli.standing import standby_document, standby_lines


@verb("status")
def command(context: Context) -> None:
    """Show how each channel stands: connection, logs, lag, last checkpoint."""
    from tallystick.node import queries

    with context.books() as books:
        live = context.ask("live")
        document = queries.status(books, live)
    if context.json:
        print_json(document)
        return
    where = f"running at {document['address']}" if document["address"] else "not running"
    found = standby_document(context.open_home(), live)
    if found["role"] == "standby":
        where = "standby"
    say(f"{document['name']}  {where}")
    if document["stopped"]:
        seen = document["stopped"]["seen"]
        said = f"  STOPPED    another copy of this home runs: it spoke at {seen}."
        say(folded(f"{said} Nothing is signed. Stop one of them for good, then run tally recover"
                   " --only-copy at the other.", 13))  # fmt: skip
    if document["http"]:
        say(f"  HTTP       {document['http']}")
    if found["role"] != "none":
        for line in standby_lines(found):
            say(folded(f"  {line}", 4))
    stamping = document["timestamps"]
    if stamping is not None and (stamping["waiting"] or stamping["problem"]):
        count = stamping["waiting"]
        said = f"  timestamps {count} checkpoint{'s' * (count != 1)} without one yet"
        why = f": {stamping['problem']}" if stamping["problem"] else ""
        say(folded(said + why, indent=13))
    for channel in document["channels"]:
        say("")
        _say_channel(channel)
    for proposal in document["proposals"]:
        who = "waits for your tally accept" if proposal["state"] == "offered" else "waits for them"
        say(f"\nproposal {proposal['channel'][:8]} with {proposal['peer']}: {who}")
    if not document["channels"] and not document["proposals"]:
        say("No channel yet. Pair with tally invite, then tally propose.")


def _say_channel(channel: dict[str, Any]) -> None:
    connected = "connected" if channel["connected"] else "not connected"
    title = (
        f"channel {channel['channel'][:8]} with {channel['peer']} (we are the {channel['role']}):"
        f" {channel['state']}, {connected}"
    )
    say(folded(title, indent=2))
    if channel["reason"]:
        say(folded(f"  {channel['reason']}", indent=2))
    for name, log in (("our log", channel["own"]), ("their log", channel["theirs"])):
        waiting = log["size"] - log["cosigned"]
        lag = "all co-signed" if not waiting else f"{waiting:,} not yet co-signed"
        what = "record " if log["size"] == 1 else "records"
        say(f"  {name:<10} {log['size']:>12,} {what}  {lag}")
    say(f"  {'closed':<10} {channel['last_checkpoint'] or 'nothing yet':>12}")
    if channel["evidence"]:
        files = len(channel["evidence"])
        say(f"  {'evidence':<10} {files:>12,} file{'s' * (files > 1)}; see tally evidence")
    for name, size in (
        ("our log", channel["shown"]["own"]),
        ("their log", channel["shown"]["theirs"]),
    ):
        if size is not None:
            said = f"  gossip shows {size:,} records of {name}: this home is older than it was"
            say(folded(f"{said}; the rest comes back from {channel['peer']}", 4))
    _say_witnesses(channel["witnesses"])
    if channel["difference"]:
        say(f"  last checkpoint refused: {channel['difference']}")
    quota = channel["quota"]
    if quota["reached"]:
        say(
            f"  quota reached: {quota['held_bytes']:,} bytes are held of"
            f" {quota['limit_bytes']:,}\n"
            "    Nothing more of their log is taken; raise quotas.log_mebibytes and restart"
        )
    if channel["withheld"]:
        say(folded(f"  they take no more of our log: {channel['withheld']}", 4))
    skew = channel["clock_skew_seconds"]
    if skew and abs(skew) > 60:
        say(f"  clocks     theirs is {skew:+.0f} s off ours")


def _say_witnesses(witnesses: list[dict[str, Any]]) -> None:
    if not witnesses:
        return
    there = sum(one["size"] >= one["of"] for one in witnesses)
    behind = [
        f"{one['name']} ({one['of'] - one['size']:,})"
        for one in witnesses
        if one["size"] < one["of"]
    ]
    rest = f"; behind: {', '.join(behind)}" if behind else ""
    say(
        folded(
            f"  {'witnesses':<10} {there:>12,} of {len(witnesses)} have the newest head{rest}", 4
        )
    )
    for one in witnesses:
        if one["breach"]:
            say(folded(f"  {one['name']} did what no witness may do: {one['breach']}", 4))
