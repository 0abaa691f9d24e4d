"""tally witness: who co-signs our heads, and whose heads we co-sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tallystick.node.cli.context import Context, verb, verbs
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError


@verbs("witness")
def command(context: Context) -> None:
    """Show the witnesses that co-sign our heads, and what this node witnesses for others."""
    from tallystick.node.witnessing.telling import describe

    with context.books() as books:
        document = describe(books, context.ask("witness"))
    if context.json:
        print_json(document)
        return
    _say_asked(document)
    say("")
    served = document["serves"]
    if served is None:
        stopped = "" if document["running"] else " (no node runs)"
        say(f"This node is no witness for others now{stopped}.")
        return
    logs = f"{served['logs']:,} log{'s' * (served['logs'] != 1)}"
    say(f"a witness for others at {served['address']}: {logs} co-signed")
    say(f"  {served['vkey']}")
    if served["doubtful"]:
        said = (
            "  It co-signs nothing: its store was restored or mended, so it may have co-signed"
            " later heads that it does not remember. Once you know that it has not, or accept the"
            " risk: tally witness settle"
        )
        say(folded(said, 2))


def _say_asked(document: dict[str, Any]) -> None:
    if not document["witnesses"]:
        say("No witness is asked to co-sign our heads: see witnessing in config.toml.")
        return
    need = document["require"]
    rule = f"{need} of {document['of']} must co-sign before a checkpoint" if need else "wished for"
    say(f"our heads are shown to {document['of']} witness{'es' * (document['of'] != 1)}: {rule}")
    for one in document["witnesses"]:
        state = f"cannot be reached: {one['failing']}" if one["failing"] else "answers"
        if not document["running"]:
            state = "no node runs"
        say("")
        say(folded(f"{one['name']} at {one['url']}: {state}", 2))
        for log in one["logs"]:
            behind = log["of"] - log["size"]
            how = "the newest head" if behind <= 0 else f"{behind:,} behind"
            when = f", at {log['at']}" if log["at"] else ""
            reach = f"{log['size']:,} records, {how}{when}" if log["size"] else "no head yet"
            say(folded(f"  {log['channel'][:8]} {log['party']}'s log: {reach}", 4))
            if log["refused"]:
                say(folded(f"    refuses: {log['refused']}", 6))
            if log["breach"]:
                say(folded(f"    it did what none may do ({log['breach_at']}): {log['breach']}", 6))
            if log["evidence"]:
                said = "    two of its lines convict it: tally witness export"
                say(folded(f"{said} {one['name']} -o FILE", 6))


@verb("policy")
def policy(context: Context) -> None:
    """Print the witnesses and how many are required, as a policy for tally verify --policy."""
    from tallystick.node.config import load_config
    from tallystick.node.witnessing.asked import asked_witnesses
    from tallystick.protocol.policy import format_policy

    home = context.open_home()
    found, _ = asked_witnesses(load_config(home.config_path).witnessing)
    text = format_policy(found).decode()
    if context.json:
        print_json({"policy": text})
        return
    say(text.rstrip("\n"))


@verb("export")
@click.argument("witness", metavar="WITNESS")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
def export(context: Context, witness: str, output: Path) -> None:
    """Write what convicts a witness of two lines that contradict each other to a file."""
    from tallystick.node.files import write_whole
    from tallystick.node.witnessing.telling import describe

    with context.books() as books:
        document = describe(books, None)
    named = [one for one in document["witnesses"] if one["name"] == witness]
    found = [log["evidence"] for one in named for log in one["logs"] if log["evidence"]]
    if not found:
        raise InputError(f"nothing here convicts a witness {witness!r}", "See: tally witness")
    write_whole(output, found[0].encode())
    if context.json:
        print_json({"file": str(output)})
        return
    say(str(output))
    context.hint(f"Anybody can check it: tally verify {output}")


@verb("settle")
def settle(context: Context) -> None:
    """Let a witness whose store was restored co-sign again."""
    if not context.call("witness_settle"):
        raise InputError("nothing is in doubt here", "See tally witness")
    if context.json:
        print_json({"settled": True})
        return
    say("It co-signs again, from what its store says.")


command.add_command(policy)
command.add_command(export)
command.add_command(settle)
