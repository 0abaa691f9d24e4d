"""The demonstration: two companies on one machine, each with its node, and a real usage trace.

acme.example serves a language model and records each request's tokens; beta.example uses it and
keeps its own export, in which its system does what systems do: its feed stopped for a minute, its
retries are counted, it notes the time when it was done. Compare names exactly what was planted.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import sys
import textwrap
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import nodes

HERE = Path(__file__).parent
TRACE = "azure_llm_2023_conv.csv"
FOLDER = HERE.parent / ".demo"
PERIOD = "2023-11-16T18"
END = datetime(2023, 11, 16, 19)

Planted = dict[str, set[str]]  # a cause's kind, or a class, and the ids of its events

MAP = """\
time    = { column = "TIMESTAMP", zone = "UTC" }
id      = { column = "request_id" }
subject = { value = "conv" }
[[meter]]
meter = "context-tokens"
quantity = { column = "ContextTokens" }
[[meter]]
meter = "generated-tokens"
quantity = { column = "GeneratedTokens" }
"""

PROVIDER_MAP = MAP.replace('{ column = "request_id" }', '{ template = "conv-{row}" }')

TERMS = """\
provider = "acme.example"
consumer = "beta.example"

[period]
calendar  = "hour"          # so that one hour's trace crosses a period's end
time_zone = "UTC"

[clocks]
grace = "3d"

[meters.context-tokens]
unit      = "token"
source    = "provider"
tolerance = { relative = "0.01%", absolute = "100" }

[meters.generated-tokens]
unit      = "token"
source    = "provider"
tolerance = { relative = "0.01%", absolute = "100" }
"""

LAG = timedelta(seconds=20)  # beta notes when it was done, acme when it was asked
GAP = ("2023-11-16 18:40", "2023-11-16 18:41")  # beta's feed stood still
PLANTED = {"retried": 160, "lost": 12, "off by one": 9}


def main() -> None:
    """Show it all, and check on the way that it is so."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    os.chdir(FOLDER)  # so that what is typed and printed has no paths of this machine
    shutil.copy(HERE / "data" / TRACE, TRACE)
    began = time.monotonic()
    with nodes.running(FOLDER) as (acme, beta):
        show = Show(acme, beta)
        _pair(show)
        _agree(show)
        _record(show)
        _compare(show)
        _declare(show)
        _close(show)
    show.title("Both nodes are stopped")
    show.text(
        f"It took {time.monotonic() - began:.0f} seconds. What it made is in .demo/; look at\n"
        f"  beta.html          why the numbers differ, as a page\n"
        f"  {PERIOD}.pdf  the statement, with the bundle inside\n"
        f"  verify.html        drop the statement or the bundle on it"
    )


class Show:
    """Runs verbs as a person would, and shows what was typed and what came."""

    def __init__(self, acme: nodes.Party, beta: nodes.Party) -> None:
        self.acme, self.beta = acme, beta

    def title(self, text: str) -> None:
        """A heading."""
        print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")

    def text(self, text: str) -> None:
        """A remark."""
        print(text, flush=True)

    def run(
        self, party: nodes.Party, *arguments: str, code: int = 0, shown: tuple[str, ...] = ()
    ) -> str:
        """A verb and its output; any other exit code ends the demonstration."""
        line = f"{party.name.split('.')[0]}$ tally {' '.join(shown or arguments)}"
        folded = textwrap.wrap(
            line, 78, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
        )
        print("\n" + " \\\n".join(folded), flush=True)
        done = party.tally(*arguments, check=False)
        print((done.stdout + done.stderr).rstrip(), flush=True)
        if done.returncode != code:
            sys.exit(f"the demonstration failed: exit code {done.returncode}, expected {code}")
        return done.stdout


def _pair(show: Show) -> None:
    show.title("1. Two nodes run, and pair")
    for party in (show.acme, show.beta):
        show.text(f"{party.name} listens on {party.address}")
    code = show.acme.json("invite")["code"]
    show.text(f"\nacme$ tally invite\n{code[:58]}…")
    show.run(show.beta, "join", code, shown=("join", f"{code[:12]}…"))
    show.run(show.acme, "peers")


def _agree(show: Show) -> None:
    show.title("2. They agree on terms")
    Path("terms.toml").write_text(TERMS)
    channel = show.acme.json("propose", "terms.toml", "--to", show.beta.name)["channel"]
    show.text(f"\nacme$ tally propose terms.toml --to {show.beta.name}   (channel {channel[:8]})")
    show.run(show.beta, "accept", "--yes")


def _record(show: Show) -> None:
    show.title("3. acme records a real trace; beta's node co-signs it")
    Path("acme.toml").write_text(PROVIDER_MAP)
    show.run(show.acme, "import", TRACE, "--map", "acme.toml", "--wait")
    show.run(show.acme, "derive")
    show.text("\nbeta derives the same from its own copy of both logs:")
    mine, theirs = show.acme.json("derive"), show.beta.json("derive")
    if mine["digest"] != theirs["digest"] or mine["lines"] != theirs["lines"]:
        sys.exit("the demonstration failed: the balances differ")
    show.text(f"acme digest {mine['digest']}\nbeta digest {theirs['digest']}")


def _compare(show: Show) -> None:
    show.title("4. beta compares its own export, in which we planted differences")
    planted = _plant(Path("beta.csv"))
    show.text(
        f"planted: a feed that stood still for a minute, times {LAG.seconds} s late,\n  "
        + ", ".join(f"{count} {what}" for what, count in PLANTED.items())
    )
    Path("beta.toml").write_text(MAP)
    arguments: tuple[str, ...] = ("compare", "beta.csv", "--period", PERIOD, "--map", "beta.toml")
    show.run(show.beta, *arguments, "--html", "beta.html", code=1)
    events = Path("beta.events.csv")
    arguments += ("--csv", str(events), "--json")
    document = json.loads(show.beta.tally(*arguments, check=False).stdout)
    _check(document, events, planted)
    show.text("\nThe report names each planted difference, and nothing else; beta.html shows it.")


def _plant(file: Path) -> Planted:
    """Write beta's export; the ids that were changed, by the cause or the class to be named."""
    with Path(TRACE).open(newline="") as opened:
        rows = [
            {"request_id": f"conv-{number}", **row}
            for number, row in enumerate(csv.DictReader(opened), 1)
        ]
    hour = [row for row in rows if row["TIMESTAMP"] < "2023-11-16 19"]
    gone = {row["request_id"] for row in hour if GAP[0] <= row["TIMESTAMP"] < GAP[1]}
    late = {row["request_id"] for row in hour if _moment(row) + LAG >= END} - gone
    rest = [row["request_id"] for row in hour if row["request_id"] not in gone | late]
    chosen = iter(random.Random(2023).sample(rest, sum(PLANTED.values())))
    retried, lost, off = (set(islice(chosen, count)) for count in PLANTED.values())
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        for row in rows:
            id_ = row["request_id"]
            if id_ in gone | lost:
                continue
            at = _moment(row) + LAG
            row["GeneratedTokens"] = str(int(row["GeneratedTokens"]) + (id_ in off))
            writer.writerow(row | {"TIMESTAMP": at.isoformat(sep=" ")})
            if id_ in retried:
                again = {"request_id": f"{id_}-r1", "TIMESTAMP": str(at + timedelta(seconds=2))}
                writer.writerow(row | again)
    return {
        "missing-feed": gone,
        "lag": late,
        "retry": {f"{id_}-r1" for id_ in retried},
        "missing-here": lost,
        "quantity": off,
    }


def _moment(row: dict[str, str]) -> datetime:
    return datetime.fromisoformat(row["TIMESTAMP"][:26])


def _check(document: dict[str, Any], events: Path, planted: Planted) -> None:
    """End the demonstration unless the report names exactly what was planted."""
    kinds = [cause["kind"] for cause in document["causes"]]
    found: Counter[tuple[str, str, str]] = Counter()
    with events.open(newline="") as opened:
        for row in csv.DictReader(opened):
            name = kinds[int(row["cause"]) - 1] if row["cause"] else row["class"]
            found[row["meter"], name, row["id"]] += 1
    wanted: Counter[tuple[str, str, str]] = Counter()
    for name, ids in planted.items():
        for meter in ("context-tokens", "generated-tokens"):
            if name != "quantity" or meter == "generated-tokens":
                wanted.update((meter, name, id_) for id_ in ids)
    if found != wanted:
        sys.exit(f"the demonstration failed: {found - wanted} {wanted - found}")
    if Counter(kinds) != {"missing-feed": 2, "lag": 2, "retry": 2}:
        sys.exit(f"the demonstration failed: the causes are {kinds}")


def _declare(show: Show) -> None:
    show.title("5. beta puts its export right, and both declare what they counted")
    arguments = ("declare", PERIOD, TRACE, "--map", "acme.toml")
    show.run(show.beta, *arguments)
    show.run(show.acme, *arguments)

    def revealed() -> bool:
        document = show.acme.json("declare", PERIOD, "--show")
        return None not in (document["provider"]["totals"], document["consumer"]["totals"])

    nodes.wait_until(revealed)
    show.run(show.acme, "declare", PERIOD, "--show")


def _close(show: Show) -> None:
    show.title("6. Both close the hour, and anybody can verify it")
    show.run(show.acme, "checkpoint", PERIOD)
    bundle = f"{PERIOD}.tally"
    show.run(show.acme, "bundle", PERIOD, "-o", bundle, "--full")
    empty = nodes.Party(FOLDER, "auditor.example")
    show.run(empty, "verify", bundle)
    show.run(show.acme, "statement", PERIOD, "-o", f"{PERIOD}.pdf")
    show.run(empty, "verifier", "-o", "verify.html")


if __name__ == "__main__":
    main()
