"""tally evidence: list what convicts a party, export and import it, and answer an accusation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tallystick.node.cli.context import Context, verb, verbs
from tallystick.node.cli.output import folded, print_json, say, table
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.accusing import Kept
    from tallystick.node.books import Books


@verbs("evidence")
def command(context: Context) -> None:
    """List the evidence in this home, or do something with it."""
    from tallystick.node.queries import evidence

    with context.books() as books:
        documents = evidence(books, context.channel)
    if context.json:
        print_json({"evidence": documents})
        return
    if not documents:
        say("No evidence against anybody.")
        return
    rows = [
        (
            document["channel"][:8],
            document["accused"],
            document["kind"],
            " and ".join(str(size) for size in document["sizes"]),
            document["digest"][:16],
        )
        for document in documents
    ]
    table(("channel", "accused", "as", "heads", "digest"), rows)


@verb("export")
@click.argument("digest", metavar="DIGEST")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
def export(context: Context, digest: str, output: Path) -> None:
    """Write evidence to a file; DIGEST is the beginning of its digest."""
    from tallystick.node.files import write_whole

    with context.books() as books:
        found = _find(books, digest)
    write_whole(output, found.data)
    if context.json:
        print_json({"file": str(output), "digest": found.digest.hex()})
        return
    say(str(output))
    context.hint(f"Anybody can check it: tally verify {output}")


def _find(books: Books, digest: str) -> Kept:
    from tallystick.node.accusing import kept

    every = [one for channel, _ in books.channels.values() for one in kept(channel)]
    found = [one for one in every if one.digest.hex().startswith(digest.lower())]
    if len(found) != 1:
        said = "several files of evidence begin" if found else "no evidence begins"
        raise InputError(f"{said} with {digest!r}", "See: tally evidence")
    return found[0]


@verb("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def import_(context: Context, file: Path) -> None:
    """Keep evidence that came another way, and halt its channel."""
    answer: dict[str, Any] = context.call("import_evidence", data=_read(file))
    if context.json:
        print_json(answer)
        return
    say(folded(answer["says"], indent=2))
    say(f"kept as {answer['digest'][:16]}; the channel with {answer['peer']} is halted")


@verb("refute")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
def refute(context: Context, file: Path, output: Path) -> None:
    """Answer an accusation from our own records.

    FILE is evidence against us, or a signed head that is said not to be in our log.
    """
    from tallystick.node.files import write_whole
    from tallystick.node.refuting import refute as answer
    from tallystick.protocol.refutation import parse_refutation

    data = _read(file)
    with context.books() as books:
        made = answer(books, data)
    write_whole(output, made)
    parsed = parse_refutation(made)
    sizes = [noted.head.size for noted in parsed.answered]
    agreed = parsed.agreed_head.head.size
    if context.json:
        print_json({"file": str(output), "answers": sizes, "agreed": agreed})
        return
    say(f"{output}: answers for the heads of {', '.join(map(str, sizes))} records")
    context.hint(f"Anybody can check it: tally verify {output}")


def _read(file: Path) -> bytes:
    from tallystick.protocol.accusation import FILE_BYTES_MAX

    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


for _sub in (export, import_, refute):
    command.add_command(_sub)
