"""tally prove and verify: proofs of single things, and checking what one is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from tallystick.node.cli.context import Context, verb
from tallystick.node.cli.output import folded, print_json, say
from tallystick.node.errors import StoreError
from tallystick.protocol.errors import FormatError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tallystick.protocol.checks import Check
    from tallystick.protocol.extras import Trust
    from tallystick.protocol.keys import Vkey

T = TypeVar("T")


@verb("prove")
@click.argument("name", metavar="[METER/ID]", required=False)
@click.option("--line", metavar="PERIOD/METER/SUBJECT", help="Prove a balance line instead.")
@click.option("--record", "index", type=click.IntRange(0), help="Prove a record of our log.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False))
def prove(
    context: Context, name: str | None, line: str | None, index: int | None, output: Path
) -> None:
    """Write the proof of a delta or record (.tlog-proof, .leaf) or of a balance line."""
    from tallystick.node import proving, queries

    if (name is not None) + (line is not None) + (index is not None) != 1:
        raise InputError("give METER/ID, --line PERIOD/METER/SUBJECT or --record INDEX")
    with context.books() as books:
        channel, closer = books.channels[books.select(context.channel)]
        if name is not None:
            log, found_at, delta = queries.find_delta(channel, name)[0]
            proof = proving.prove_record(channel, log, found_at)
            stem = file_name(f"{delta.meter}-{delta.id}" if "/" in name else delta.id)
            files = {f"{stem}.tlog-proof": proof.proof, f"{stem}.leaf": proof.leaf}
        elif index is not None:
            proof = proving.prove_record(channel, channel.own, index)
            files = {f"record-{index}.tlog-proof": proof.proof, f"record-{index}.leaf": proof.leaf}
        else:
            assert line is not None
            period, _, rest = line.partition("/")
            meter, _, subject = rest.partition("/")
            row, found = queries.closed_line(channel, closer, period, meter, subject)
            text, data = proving.prove_line(row, found)
            status = queries.closed_status(channel, closer, row, found)
            stem = file_name(f"{period}-{meter}-{subject}")
            files = {f"{stem}.line-proof": text, f"{stem}.line": data}
    paths = write_files(output, files)
    if context.json:
        print_json({"files": paths} | ({"status": status} if line else {}))
        return
    for path in paths:
        say(path)
    if line is None:
        keys = "\n".join(map(str, proof.vkeys))
        context.hint(f"Check with any tlog-proof tool and these keys:\n{keys}")


def file_name(text: str) -> str:
    """A name for files: letters that could lead elsewhere or upset a shell become underscores."""
    return re.sub(r"[^A-Za-z0-9._:@+-]", "_", text).lstrip(".") or "_"


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write files into a folder, which is made if it is not there; their paths."""
    from tallystick.node.files import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from None
    for file, content in files.items():
        write_whole(folder / file, content)
    return [str(folder / file) for file in files]


def checks_of(
    file: BinaryIO,
    beside: bytes | None = None,
    expected: Sequence[Vkey] = (),
    trust: Trust | None = None,
) -> list[Check]:
    """The checks for what a file is by its first words; a bundle has none.

    `beside` is the leaf or the line that a proof is of, or the proof behind a seal; `expected` are
    the keys that these or a checkpoint's note are to be signed by. The other files name their keys.
    With `trust`, witnesses and timestamps are judged; `InputError` if the file can have neither.
    """
    from tallystick.protocol.accusation import FILE_BYTES_MAX
    from tallystick.protocol.extras import NOTHING

    data = file.read(FILE_BYTES_MAX + 1)
    if data.startswith(_TITLES[0]):
        from tallystick.protocol.verify_proof import verify_delta_proof

        if trust is not None and trust.certificates is not None:
            raise InputError("a proof of a delta has no timestamp", "The bundle of its period may")
        return verify_delta_proof(data, beside, expected, trust or NOTHING)
    other = data.startswith((b"tallystick ", b"%PDF-"))
    if trust is not None and (other or data.lstrip(_BEFORE_MARKUP).startswith(b"<")):
        raise InputError(
            "this is no file that witnesses or timestamps could be in",
            "They are in bundles, and witnesses in proofs of deltas; statements leave them out",
        )
    if data.startswith(b"tallystick evidence "):
        from tallystick.protocol.evidence import verify_evidence

        return verify_evidence(data)
    if data.startswith(b"tallystick witness-evidence "):
        from tallystick.protocol.contradiction import verify_contradiction

        return verify_contradiction(data)
    if data.startswith(b"tallystick refutation "):
        from tallystick.protocol.refutation import verify_refutation

        return verify_refutation(data)
    if data.startswith(b"tallystick certificate "):
        from tallystick.protocol.verify_certificate import verify_certificate

        return verify_certificate(data)
    if data.startswith(_TITLES):
        from tallystick.protocol import verify_proof

        if data.startswith(_TITLES[1]):
            return verify_proof.verify_line(data, beside, expected)
        return verify_proof.verify_note(data, expected)
    if data.startswith(b"tallystick passthrough"):
        from tallystick.protocol import passthrough_proof
        from tallystick.protocol.verify_passthrough import verify_passthrough, verify_seal

        data += file.read(passthrough_proof.FILE_BYTES_MAX)
        if data.startswith(b"tallystick passthrough-seal"):
            return verify_seal(data, beside, expected)
        return verify_passthrough(data, expected)
    if data.startswith((b"%PDF-", b"<!doctype html>")):
        from tallystick.node.statement.attached import FILE_BYTES_MAX as STATEMENT_BYTES_MAX
        from tallystick.node.statement.verifying import verify_statement

        return verify_statement(data + file.read(STATEMENT_BYTES_MAX))
    if data.lstrip(_BEFORE_MARKUP).startswith(b"<"):
        from tallystick.node.statement.invoice import verify_invoice
        from tallystick.node.statement.ubl import DOCUMENT_BYTES_MAX

        return verify_invoice(data + file.read(DOCUMENT_BYTES_MAX))
    from tallystick.protocol.verify import verify_bundle

    return verify_bundle(file, trust or NOTHING)


# What a proof of a delta, one of a line and a checkpoint's note begin with.
_TITLES = (b"c2sp.org/tlog-proof@", b"tallystick line-proof ", b"tallystick checkpoint ")
_BEFORE_MARKUP = b"\xef\xbb\xbf \t\r\n"
_BESIDE = {".tlog-proof": ".leaf", ".line-proof": ".line", ".seal": ".passthrough"}


def _beside(file: Path, given: Path | None) -> bytes | None:
    """What belongs to a proof or a seal: the file that was given, or the one that is beside it."""
    from tallystick.protocol.passthrough_proof import FILE_BYTES_MAX

    path = given or (file.with_suffix(_BESIDE[file.suffix]) if file.suffix in _BESIDE else None)
    if path is None or (given is None and not path.exists()):
        return None
    try:
        with path.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _trust(policy: Path | None, authorities: Path | None) -> Trust | None:
    """Whom the reader trusts by these files; None if there are none."""
    from tallystick.protocol.extras import Trust
    from tallystick.protocol.policy import POLICY_BYTES_MAX, parse_policy
    from tallystick.protocol.timestamps import TRUSTED_BYTES_MAX, parse_trusted

    if policy is None and authorities is None:
        return None
    read, certificates = None, None
    if policy is not None:
        read = _parsed(policy, POLICY_BYTES_MAX, parse_policy)
    if authorities is not None:
        certificates = tuple(_parsed(authorities, TRUSTED_BYTES_MAX, parse_trusted))
    return Trust(read, certificates)


def _parsed(file: Path, most: int, parse: Callable[[bytes], T]) -> T:
    try:
        with file.open("rb") as opened:
            return parse(opened.read(most + 1))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except (FormatError, InputError) as error:
        raise InputError(f"{file}: {error.message}", error.advice) from None


@verb("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--vkey", "vkeys", multiple=True, metavar="VKEY", help="A key that you expect.")
@click.option(
    "--of",
    "beside",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A proof's .leaf or .line, a seal's .passthrough, if it is not beside it.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which witnesses must have co-signed the heads (a tlog-policy file).",
)
@click.option(
    "--tsa-certificates",
    "authorities",
    type=click.Path(path_type=Path, dir_okay=False),
    help="To which certificates (PEM) the timestamp must lead.",
)
def verify(
    context: Context,
    file: Path,
    vkeys: tuple[str, ...],
    beside: Path | None,
    policy: Path | None,
    authorities: Path | None,
) -> None:
    """Check a bundle, a proof, a statement, evidence; needs no home and no network.

    A proof or a checkpoint's note names no keys: give those that you know with --vkey. What
    witnesses and an authority of time added is judged by whom you trust: --policy and
    --tsa-certificates.
    """
    from tallystick.protocol.keys import parse_vkey

    try:
        expected = [parse_vkey(vkey) for vkey in vkeys]
    except FormatError as error:
        raise InputError(error.message, error.advice) from None
    trust = _trust(policy, authorities)
    try:
        with file.open("rb") as opened:
            checks = checks_of(opened, _beside(file, beside), expected, trust)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    good = all(check.ok for check in checks)
    if context.json:
        print_json(
            {
                "ok": good,
                "checks": [
                    {
                        "name": check.name,
                        "ok": check.ok,
                        "detail": check.detail,
                        "judged": check.judged,
                    }
                    for check in checks
                ],
            }
        )
    else:
        for check in checks:
            verdict = "FAIL" if not check.ok else "ok  " if check.judged else "open"
            say(folded(f"{check.number:>2} {verdict} {check.name}: {check.detail}", indent=8))
        say("")
        unjudged = " and ".join(check.name for check in checks if not check.judged)
        but = f"; not judged: {unjudged}" if unjudged else ""
        say(f"{file.name}: every check holds{but}" if good else f"{file.name}: NOT PROVEN")
    if not good:
        raise SystemExit(1)
