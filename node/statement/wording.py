"""The words of a statement that both its renderings use: notes, steps, what is proven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tallystick.node.statement.model import Claim, Statement
from tallystick.node.statement.texts import nonzero, readable

Form = Literal["pdf", "html"]
Step = Sequence[tuple[bool, str]]  # parts; True: a command or a file's name

DISPUTES_FILE = "disputes.json"
CLAIMS_MAX = 500  # disputes that are shown

DRAFT_NOTE = "DRAFT: this period is not closed. Nobody has signed these numbers."
LATE_NOTE = (
    "Recorded or corrected after its own period was closed, and counted in this one; a correction"
    " may be negative. These lines are part of the totals above."
)
SIGNED_NOTE = (
    "The checkpoint, in full. The digest is the SHA-256 of its text, without the two signature"
    " lines below it, which are wrapped here."
)

_THEN = {"upheld": "it is upheld", "lapsed": "it lapses"}


def running(statement: Statement) -> str:
    """The line on top of every page."""
    return f"Usage statement {statement.period}, {statement.provider} to {statement.consumer}"


def foot(statement: Statement) -> str:
    """The line at the bottom of every page."""
    if statement.proof is None:
        return statement.mark
    return f"Signed by {statement.provider} and {statement.consumer}"


def facts(statement: Statement) -> list[tuple[str, tuple[str, ...], bool]]:
    """What stands on top: name, value and what is said of it, and whether it is for people."""
    found = [
        ("Provider", (statement.provider,), True),
        ("Consumer", (statement.consumer,), True),
        (
            "Period",
            (
                f"{statement.period}, by the {statement.calendar}",
                f"from {statement.start} until before {statement.end}, {statement.time_zone}",
                f"in UTC from {statement.start_utc} until before {statement.end_utc}",
            ),
            True,
        ),
        ("Channel", (statement.channel,), False),
    ]
    if statement.proof is not None:
        found.append(("Digest", (statement.proof.digest,), False))
    return found


def totals_note(statement: Statement) -> str:
    """Whose number is payable, and what the columns mean."""
    return (
        f"{statement.payable_rule} Disputed is withheld from it; pending is by how much the two"
        " sides' numbers differ."
    )


def declared(statement: Statement) -> bool:
    """Whether a party declared anything."""
    found = statement.verdicts or ()
    return any(verdict.provider or verdict.consumer for verdict in found)


def verdict_note(statement: Statement) -> str:
    """What a verdict is, or why there is none."""
    if statement.verdicts is None:
        return "There is no verdict: this checkpoint is from before there were any."
    if not declared(statement):
        return (
            "Neither party declared totals of its own before it saw the other's: the numbers are"
            " as both logs record them."
        )
    return (
        "Declared is what a party committed to have counted before it could see the other's total;"
        " the verdict holds both against the tolerance of the terms."
    )


def claims_note(statement: Statement) -> str:
    """What the disputes on a statement are."""
    when = "now" if statement.draft else "when the period was closed"
    count = len(statement.pending_claims) + len(statement.decided_claims)
    more = ""
    if count > CLAIMS_MAX:
        more = f" Of {count}, the first {CLAIMS_MAX} are shown"
        more += "." if statement.draft else f"; all are in {DISPUTES_FILE}."
    return (
        f"As they stood {when}. What is disputed is withheld from what is payable until it is"
        " settled or a deadline passes; it then counts in the next open period." + more
    )


def shown_claims(statement: Statement) -> list[tuple[Claim, bool]]:
    """The disputes that are shown, and whether each is pending."""
    found = [(claim, True) for claim in statement.pending_claims]
    found += [(claim, False) for claim in statement.decided_claims]
    return found[:CLAIMS_MAX]


def claim_line(claim: Claim) -> str:
    """What a dispute is about."""
    return f"{claim.period} · {claim.meter} · {claim.subject}"


def claim_said(claim: Claim) -> str:
    """Who says what in a dispute."""
    more = "more" if claim.amount.startswith("-") else "less"
    return (
        f"{claim.by} against {claim.against} ({claim.dispute[:8]}): {claim.reason}"
        f" (reason code {claim.code}; {more} should be payable)"
    )


def claim_stands(claim: Claim) -> str:
    """Where a dispute stands."""
    words = {
        "open": "Not answered",
        "answered": "Answered",
        "contested": "Contested: both insist, and only they can settle it",
        "resolved": "Settled by both",
        "withdrawn": "Withdrawn",
        "conceded": "Conceded",
        "barred": "Too late: the checkpoint was accepted before",
        "upheld": "Upheld, for want of an answer",
        "lapsed": "Lapsed: not insisted on after the answer",
    }[claim.state]
    parts = [words]
    if claim.waits_for is not None:
        until = f" until {claim.until}" if claim.until else ""
        then = f"; after that {_THEN[claim.then]}" if claim.then else ""
        parts.append(f"waits for {claim.waits_for}{until}{then}")
    if nonzero(claim.upheld):
        parts.append(f"{claim.upheld} {claim.unit} of it upheld")
    if nonzero(claim.pending):
        parts.append(f"{claim.pending} {claim.unit} of it not decided")
    return f"{'; '.join(parts)}."


def columns_note(statement: Statement) -> str:
    """What the tables of lines leave out."""
    told = "Disputed and pending are shown where a line of the meter has any."
    if statement.late:
        told += " Late lines are above, under late usage."
    return told


def no_lines(statement: Statement, *, shown: bool) -> str:
    """What stands there instead of lines: there are none of the period itself, or too many."""
    if not shown:
        where = "tally derive shows them"
        if statement.proof is not None:
            where = f"they are in statement.csv in {statement.proof.bundle}"
        return f"The {statement.lines} lines are too many for these pages: {where}."
    if statement.lines:
        return "No usage of this period itself was recorded; see late usage."
    return "No usage was recorded in this period."


def note_rows(statement: Statement) -> list[str]:
    """The checkpoint's note, text and signatures; empty of a draft."""
    if statement.proof is None:
        return []
    text = statement.proof.text.rstrip("\n").split("\n")
    return [*map(readable, text), "", *statement.proof.signature_lines]


def file_type(name: str) -> str:
    """The media type of a file inside."""
    return "application/json" if name.endswith(".json") else "application/zip"


def steps(statement: Statement, form: Form) -> list[Step]:
    """How to verify, in three steps."""
    assert statement.proof is not None, "a draft proves nothing"
    name = statement.proof.bundle
    page = "PDF" if form == "pdf" else "page"
    where = (
        " attached to this PDF (your reader lists it under attachments)."
        if form == "pdf"
        else " inside this page, with the link above."
    )
    return [
        [(False, "Save the bundle "), (True, name), (False, where)],
        [
            (False, "Check it, offline: "),
            (True, f"tally verify {name}"),
            (
                False,
                f", or the same with this {page}, which also holds every byte of it against the"
                " bundle. Without any installation, open the verifier page ",
            ),
            (True, "verify.html"),
            (False, " in a browser and drop the bundle on it."),
        ],
        [
            (
                False,
                "Compare the channel and the digest that it reports with those at the top,"
                " and the channel with the one that your own node or contract names: a signature"
                " proves which key signed, not whose it is.",
            )
        ],
    ]


def proves(statement: Statement, form: Form) -> list[str]:
    """What is proven, and what not."""
    proof = statement.proof
    assert proof is not None, "a draft proves nothing"
    sizes = " and ".join(f"{size} of {party}" for party, size in proof.heads)
    records = (
        f"The bundle is full: it holds all records ({sizes}), from which every line is derived"
        " anew."
        if proof.full
        else f"The bundle is compact: it commits to all records ({sizes}) without holding them. A"
        " full one derives every line anew."
    )
    page = "PDF" if form == "pdf" else "page"
    told = [
        "Both signatures cover every line, every total and the verdict. One changed digit in the"
        " bundle breaks them.",
        records,
        f"No signature covers the look of these pages. Checking this {page} makes it anew from the"
        " bundle and compares all bytes. Of a paper copy, hold the numbers against the bundle's.",
    ]
    if statement.pending_claims or statement.decided_claims:
        told.append(
            "The disputed amounts are in the signed lines. Who disputes, why and until when is"
            f" taken from the two logs and stands in {DISPUTES_FILE}, as its maker says."
        )
    told.append(
        "That a record is true is proven by nobody: the signatures say what was recorded, when,"
        " and that neither party can take it back."
    )
    return told
