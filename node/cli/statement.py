"""tally statement and attach: a closed period as pages, and inside the invoice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.protocol.errors import InputError

if TYPE_CHECKING:
    from tallystick.node.statement.making import Made
    from tallystick.node.statement.pdf import Paper

INVOICE_BYTES_MAX = 256 << 20

_PAPERS: dict[str, Paper] = {"a4": "a4", "letter": "us-letter"}
_FILE = click.Path(path_type=Path, dir_okay=False)


@verb("statement")
@click.argument("period", required=False)
@click.option("-o", "--output", required=True, type=_FILE, help="F.pdf or F.html.")
@click.option("--full", is_flag=True, help="With the full bundle inside.")
@click.option("--draft", is_flag=True, help="Of a period that is not closed: nobody signed it.")
@click.option("--paper", type=click.Choice([*_PAPERS]), default="a4", help="Of a PDF.")
@click.option("--from", "source", type=_FILE, help="Out of a bundle or a statement; needs no home.")
def statement(
    context: Context,
    period: str | None,
    output: Path,
    full: bool,
    draft: bool,
    paper: str,
    source: Path | None,
) -> None:
    """Write the statement of PERIOD as PDF or HTML, with the proof bundle inside."""
    from tallystick.node.files import write_whole

    kind = _kind(output)
    if (period is None) == (source is None):
        raise InputError("give a PERIOD, or a bundle with --from", "See: tally statement --help")
    if source is not None and (full or draft):
        raise InputError("--from takes what the bundle has: --full and --draft are not for it")
    made = _of_file(source) if source is not None else _of_books(context, period, full, draft)
    if kind == "pdf":
        from tallystick.node.statement.pdf import render_pdf

        data = render_pdf(made.statement, made.attached, paper=_PAPERS[paper])
    else:
        from tallystick.node.statement.html import render_html

        data = render_html(made.statement, made.attached)
    write_whole(output, data)
    proof = made.statement.proof
    if context.json:
        document = {
            "file": str(output),
            "bytes": len(data),
            "period": made.statement.period,
            "lines": made.statement.lines,
            "digest": proof.digest if proof else None,
            "attached": list(made.attached),
        }
        print_json(document)
        return
    say(f"wrote {output} ({len(data):,} bytes)")
    if proof is None:
        context.hint("It is a draft: nobody has signed it, and nothing is attached.")
    else:
        context.hint(f"Anybody checks it, offline, with: tally verify {output}")


def _kind(output: Path) -> str:
    match output.suffix.lower():
        case ".pdf":
            return "pdf"
        case ".html" | ".htm":
            return "html"
        case other:
            raise InputError(
                f"-o {output}: {other or 'no ending'} is no form of a statement",
                "Name it F.pdf or F.html",
            )


def _of_books(context: Context, period: str | None, full: bool, draft: bool) -> Made:
    from tallystick.node.statement.making import make_statement

    assert period is not None, "the caller has seen to it"
    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        return make_statement(channel, closer, period, full=full, draft=draft)


def _of_file(source: Path) -> Made:
    from tallystick.node.statement.verifying import remade

    return remade(_read(source))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > INVOICE_BYTES_MAX:
            raise InputError(f"{path} is larger than {INVOICE_BYTES_MAX >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


@verb("attach")
@click.argument("invoice", type=_FILE)
@click.option("--period", required=True, help="The closed period that it bills.")
@click.option("-o", "--output", type=_FILE, help="Where to write it (default: INVOICE itself).")
@click.option("--bundle", is_flag=True, help="The bundle itself: EN 16931 does not allow a ZIP.")
@click.option("--full", is_flag=True, help="With all records, so that anybody can derive again.")
@click.option("--any-period", is_flag=True, help="Even if the invoice bills other days.")
def attach(
    context: Context,
    invoice: Path,
    period: str,
    output: Path | None,
    bundle: bool,
    full: bool,
    any_period: bool,
) -> None:
    """Put the proof of a period into INVOICE, a UBL 2.1 invoice or credit note."""
    from tallystick.node.files import write_whole
    from tallystick.node.statement.invoice import attach as attach_to
    from tallystick.node.statement.pdf import render_pdf

    data = _read(invoice)
    made = _of_books(context, period, full, draft=False)
    pdf = None if bundle else render_pdf(made.statement, made.attached)
    done = attach_to(data, made, pdf=pdf, any_period=any_period)
    target = output or invoice
    write_whole(target, done.data)
    if context.json:
        proof = made.statement.proof
        print_json(
            {
                "file": str(target),
                "bytes": len(done.data),
                "attached": done.name,
                "mime_type": done.mime_type,
                "digest": proof.digest if proof else None,
                "replaced": done.replaced,
                "notes": list(done.notes),
            }
        )
        return
    what = "replaced the proof in" if done.replaced else "attached the proof to"
    say(folded(f"{what} {target}: {done.name}, {len(done.data):,} bytes in all", 2))
    for note in done.notes:
        context.hint(folded(f"Note: {note}.", 2))
    context.hint(f"Anybody checks it, offline, with: tally verify {target}")
