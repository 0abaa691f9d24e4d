"""Scores of many worlds in tables, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worlds.plan import WEIGHTS
from worlds.scoring import CONFIDENCES, Score, Tally

SITUATIONS = ("shared", "part", "none", "sums")

SHOWN = 4  # of what was not right about a world

Table = tuple[str, list[str], list[list[str]]]  # what it is, the columns, the rows


def percent(part: float, whole: float) -> str:
    """A share in percent with one place; a dash of nothing."""
    return f"{100 * part / whole:.1f}" if whole else "-"


def tables(scores: Sequence[Score]) -> list[Table]:
    """All tables, each with a sentence about it."""
    return [_kinds(scores), _counts(scores), _sure(scores), _pairs(scores), _covered(scores)]


def totals(scores: Iterable[Score]) -> dict[str, Tally]:
    """Each kind's tally over these worlds, and `all`."""
    found = {kind: Tally() for kind in WEIGHTS}
    whole = Tally()
    for score in scores:
        for kind, tally in score.kinds.items():
            found.setdefault(kind, Tally()).add(tally)
            whole.add(tally)
    return found | {"all": whole}


def _kinds(scores: Sequence[Score]) -> Table:
    rows = []
    for kind, t in totals(scores).items():
        rows.append(
            [
                kind, str(t.planted), percent(t.found, t.planted),
                percent(t.material_found, t.material), str(t.said), percent(t.right, t.said),
                percent(sum(t.shares), len(t.shares)),
            ]
        )  # fmt: skip
    columns = ["kind", "planted", "recall", "material", "said", "precision", "gap"]
    return (
        "Causes. `material`: recall of those that make up more than 1% of what all causes of a"
        " meter contribute. `gap`: how near the amount that was said of these is to what the cause"
        " contributes, the smaller divided by the larger; nothing if it was not found. All but the"
        " counts are percents.",
        columns,
        rows,
    )


def _counts(scores: Sequence[Score]) -> Table:
    rows = []
    for count in sorted({score.causes for score in scores}):
        some = [score for score in scores if score.causes == count]
        t = totals(some)["all"]
        rows.append(
            [
                str(count), str(len(some)), percent(t.found, t.planted),
                percent(t.right, t.said), str(t.said - t.right),
                percent(sum(score.clean for score in some), len(some)),
            ]
        )  # fmt: skip
    columns = ["causes", "worlds", "recall", "precision", "wrong", "all right"]
    return (
        "Worlds by the number of composed causes. `wrong`: causes said that are not there."
        " `all right`: worlds with every cause found and nothing else said.",
        columns,
        rows,
    )


def _sure(scores: Sequence[Score]) -> Table:
    rows = []
    for name in CONFIDENCES:
        said = sum(score.confidences.get(name, (0, 0))[0] for score in scores)
        right = sum(score.confidences.get(name, (0, 0))[1] for score in scores)
        rows.append([name, str(said), percent(right, said)])
    return "Causes by how sure they are said to be.", ["confidence", "said", "precision"], rows


def _pairs(scores: Sequence[Score]) -> Table:
    rows = []
    for situation in SITUATIONS:
        some = [score for score in scores if score.situation == situation]
        for name in CONFIDENCES:
            said = sum(score.pairs.get(name, (0, 0))[0] for score in some)
            right = sum(score.pairs.get(name, (0, 0))[1] for score in some)
            rows.append([situation, name, f"{said:,}", f"{said - right:,}", percent(right, said)])
    return (
        "Pairs, by what ids both sides share (all, a part, none; or one side has sums) and by how"
        " sure they are said to be.",
        ["ids", "confidence", "pairs", "wrong", "precision"],
        rows,
    )


def _covered(scores: Sequence[Score]) -> Table:
    rows = []
    for situation in SITUATIONS:
        some = [score for score in scores if score.situation == situation]
        expected = sum(score.expected for score in some)
        covered = sum(score.covered for score in some)
        rows.append([situation, str(len(some)), f"{expected:,}", percent(covered, expected)])
    return (
        "Recall of pairs: of the requests that both sides have, those in a right pair.",
        ["ids", "worlds", "requests", "recall"],
        rows,
    )


def worst(scores: Sequence[Score], count: int) -> list[Score]:
    """So many worlds of which the least was right, worst first."""
    bad = [score for score in scores if not score.clean]
    bad.sort(key=lambda s: (-len(s.inexact), -len(s.missed) - len(s.wrong), s.seed))
    return bad[:count]


def world_lines(score: Score) -> list[str]:
    """What was not right about a world, and how to see it again."""
    lines = [
        f"seed {score.seed}: {score.causes} causes, {score.events:,} rows, ids: {score.situation}"
    ]
    for what, items in (
        ("does not add up", score.inexact), ("missed", score.missed), ("wrong", score.wrong),
    ):  # fmt: skip
        lines += [f"  {what}: {item}" for item in items[:SHOWN]]
        if len(items) > SHOWN:
            lines.append(f"  and {len(items) - SHOWN} more {what}")
    lines.append(f"  replay: scripts/score --seeds {score.seed}-{score.seed}")
    return lines


def in_text(table: Table) -> str:
    """A table for a terminal."""
    _, columns, rows = table
    widths = [max(len(row[n]) for row in [columns, *rows]) for n in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [columns, *rows]
    )


def in_markdown(table: Table) -> str:
    """A table for a page, with its sentence before it."""
    said, columns, rows = table
    lines = [said, "", "| " + " | ".join(columns) + " |"]
    lines.append("|" + "|".join(" --- " if n == 0 else " ---: " for n in range(len(columns))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
