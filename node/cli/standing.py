"""How a node and its standby stand to each other, in words for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.node.home import Home


def standby_document(home: Home, live: dict[str, Any] | None) -> dict[str, Any]:
    """How a home and its standby, or its primary, stand; `live` is what the running node says."""
    from tallystick.node.standby.mode import primary_of, superseded_by

    found = superseded_by(home)
    if found is not None:
        return {"role": "superseded", "generation": found}
    if live is not None:
        return live["standby"] or {"role": "none"}
    primary = primary_of(home)
    return (
        {"role": "standby", "primary": primary, "running": False} if primary else {"role": "none"}
    )


def standby_lines(document: dict[str, Any]) -> list[str]:
    """How a node and its standby stand to each other, in words."""
    match document["role"]:
        case "superseded":
            return [
                f"superseded: another node took over (generation {document['generation']});"
                " this home signs nothing any more"
            ]
        case "primary":
            return [_primary_line(document)]
        case "standby":
            return _standby_lines(document)
        case _:
            return ["no standby"]


def _primary_line(document: dict[str, Any]) -> str:
    if document["alone"]:
        return (
            "standby: NOT IN STEP, and not waited for any more: what is acknowledged now is on"
            " this machine alone"
        )
    if not document["connected"]:
        waits = ", and emits wait for one" if document["wait"] else ""
        return f"standby: none is connected{waits}"
    if not document["in_step"]:
        return "standby: connected, and behind"
    waited = "emits wait for it" if document["wait"] else "emits do not wait for it"
    return f"standby: in step, {document['lag_commits']} commits behind; {waited}"


def _standby_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"a standby of the node at {document['primary']}"]
    if not document.get("running", True):
        return [*lines, "not running: it mirrors nothing"]
    if document["in_step"]:
        lines.append("in step")
    elif document["connected"]:
        lines.append("what it has not yet is on its way")
    else:
        heard = document["heard_seconds"]
        when = "never" if heard is None else f"{heard:g} s ago"
        lines.append(f"not connected (heard {when}): {document['problem'] or 'not yet'}")
    if not document["complete"]:
        lines.append("nothing is mirrored yet: it cannot take over")
    return lines
