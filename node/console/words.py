"""How a channel stands, in words: one state, one sentence, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LAG_SECONDS = 10.0  # for less, records are merely on their way
SKEW_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A channel's state: its kind (for style), its name, what is so, and what to do."""

    kind: str
    name: str
    says: str
    todo: str
    notes: tuple[str, ...] = ()


def standing_of(document: dict[str, Any], disputes: Sequence[dict[str, Any]], me: str) -> Standing:
    """How a channel stands, by its status and the disputes that wait in it."""
    notes = _notes(document)
    found = (
        _stopped(document)
        or _diverged(document["difference"])
        or _disputed(document, disputes, me)
        or _lagging(document)
    )
    if found is not None:
        return Standing(*found, notes)
    own, theirs, peer = document["own"], document["theirs"], document["peer"]
    said = (
        f"Both sides hold the same records: {own['size']:,} of ours and {theirs['size']:,} of"
        f" {peer}’s, all co-signed."
    )
    if document["lag_records"]:
        on_the_way = _records(document["lag_records"])
        said = f"{on_the_way} of ours on the way to {peer}; all others are co-signed."
    return Standing("agreement", "In agreement", said, "Nothing is to be done.", notes)


def _records(many: int) -> str:
    return f"{many:,} record{'' if many == 1 else 's'}"


def _stopped(document: dict[str, Any]) -> tuple[str, str, str, str] | None:
    if document["state"] != "halted":
        return None
    peer = document["peer"]
    if document["evidence"]:
        return (
            "halted",
            "Diverged",
            f"Stopped, because a party signed two histories of one log: {document['reason']}.",
            "What was agreed before stands, and nothing more is signed here. Look at the evidence,"
            f" and talk to {peer}; a new channel can follow this one.",
        )
    return (
        "halted",
        "Halted",
        f"Stopped: {document['reason'] or 'no reason was kept'}.",
        f"Nothing more is recorded or signed here. Talk to {peer}, and agree on new terms.",
    )


def _diverged(difference: str) -> tuple[str, str, str, str] | None:
    if not difference:
        return None
    return (
        "diverged",
        "Diverged",
        f"The last checkpoint was not signed, because the two nodes compute different numbers:"
        f" {difference}.",
        "Compare that line with your own numbers; then correct or dispute it, or close the period"
        " again.",
    )


def _disputed(
    document: dict[str, Any], disputes: Sequence[dict[str, Any]], me: str
) -> tuple[str, str, str, str] | None:
    if not disputes:
        return None
    ours = sum(one["waits_for"] == me for one in disputes)
    theirs = sum(one["waits_for"] == document["peer"] for one in disputes)
    both = len(disputes) - ours - theirs
    many = len(disputes)
    parts = [
        f"{count} {'waits' if count == 1 else 'wait'} for {who}"
        for count, who in ((ours, "you"), (theirs, document["peer"]), (both, "both to agree"))
        if count
    ]
    if many == 1:
        who = "you" if ours else document["peer"] if theirs else "both to agree"
        said = f"A dispute is open; it waits for {who}."
    else:
        said = f"{many} disputes are open: {', '.join(parts)}."
    todo = (
        "Answer before the deadline: what is not answered is upheld."
        if ours
        else "Settle it together."
        if both
        else f"{document['peer']} has to answer in time."
    )
    return "disputed", "Disputed", said, todo


def _lagging(document: dict[str, Any]) -> tuple[str, str, str, str] | None:
    peer, lag = document["peer"], document["lag_records"]
    if document["withheld"]:
        return (
            "lagging",
            "Lagging",
            f"{peer} takes no more of our log: {document['withheld']}.",
            f"Ask {peer} to make room; what is recorded here is kept, and goes on then.",
        )
    if document["quota"]["reached"]:
        return (
            "lagging",
            "Lagging",
            f"The log of {peer} has reached its quota here, so nothing more of it is taken.",
            "Raise quotas.log_mebibytes in config.toml and start the node again.",
        )
    if not document["connected"]:
        said = f"{peer} is not connected. "
        said += (
            f"{_records(lag)} of ours {'waits' if lag == 1 else 'wait'} for its co-signature."
            if lag
            else "Everything that was recorded is co-signed."
        )
        todo = "Nothing is lost: the nodes connect by themselves. If it lasts, ask them to look."
        return "lagging", "Lagging" if lag else "Not connected", said, todo
    if document["state"] == "confirming":
        return (
            "lagging",
            "Confirming",
            f"This node asks {peer} what it saw last, before it signs anything new.",
            "This ends by itself. If it lasts, see tally recover.",
        )
    seconds = document["lag_seconds"]
    if lag and seconds is not None and seconds >= LAG_SECONDS:
        return (
            "lagging",
            "Lagging",
            f"{_records(lag)} of ours {'waits' if lag == 1 else 'wait'} for the co-signature of"
            f" {peer}; the last one came {_about(seconds)} ago.",
            f"Nothing is lost. If it lasts, ask {peer} whether its node is well.",
        )
    return None


def _about(seconds: float) -> str:
    """A duration as people say it."""
    for many, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= many:
            count = int(seconds // many)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


def _notes(document: dict[str, Any]) -> tuple[str, ...]:
    skew = document["clock_skew_seconds"]
    if skew is None or abs(skew) < SKEW_SECONDS:
        return ()
    way = "ahead of" if skew > 0 else "behind"
    return (f"The clock of {document['peer']} is {_about(abs(skew))} {way} ours.",)
