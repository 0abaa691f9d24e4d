"""A reseller's real node between a supplier's and two customers': sums, proofs, privacy."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import here
import nodes
import pytest
import verifying

from tallystick.protocol.passthrough_proof import parse_passthrough
from tallystick.protocol.statement import decode_line

DAY, NEXT, MONTH = "2026-01-05", "2026-01-06", "2026-01"
TERMS = """\
provider = "{provider}"
consumer = "{consumer}"
[period]
calendar = "day"
time_zone = "UTC"
[meters.tokens]
unit = "token"
[meters.gpu-hours]
unit = "GPU-hour"
scale = {scale}
[meters.peak]
unit = "GB"
aggregate = "max"
"""
MAP = """\
own_use = ["lab"]
others = "same-names"
[[resale]]
upstream = ["pool-a", "pool-b"]
downstream = { channel = "beta.example", subject = "assistant" }
"""
ODD = "../x/\u202e=1+1" + "é" * 40  # what turns the direction of writing is no control character
# What is recorded of the day before it is closed: who sells to whom, meter, subject, quantity.
IN_TIME = [
    ("cloud.example", "tokens", "p1", "1000"), ("beta.example", "tokens", "p1", "1000"),
    ("cloud.example", "tokens", "pool-a", "300"), ("cloud.example", "tokens", "pool-b", "200"),
    ("beta.example", "tokens", "assistant", "500"),
    ("cloud.example", "gpu-hours", "p1", "1.236"), ("beta.example", "gpu-hours", "p1", "1.24"),
    ("cloud.example", "tokens", "p2", "500"), ("gamma.example", "tokens", "p2", "450"),
    ("cloud.example", "tokens", "lab", "70"),
    ("cloud.example", "tokens", "late", "40"), ("gamma.example", "tokens", "p0", "1"),
    ("cloud.example", "tokens", "fixed", "60"), ("beta.example", "tokens", "fixed", "60"),
    ("cloud.example", "tokens", "kept", "80"), ("beta.example", "tokens", "kept", "80"),
    ("cloud.example", "tokens", "argued", "90"), ("beta.example", "tokens", "argued", "90"),
    ("cloud.example", "peak", "p1", "3"),
    ("cloud.example", "gpu-hours", ODD, "2.5"), ("beta.example", "gpu-hours", ODD, "2.5"),
]  # fmt: skip


@dataclass
class World:
    """The four parties; the reseller's home is what is asked."""

    folder: Path
    cloud: nodes.Party
    broker: nodes.Party
    beta: nodes.Party
    gamma: nodes.Party

    def emit(self, other: str, meter: str, subject: str, quantity: str, id: str) -> None:
        """A delta of the day: bought if the other side is the supplier, else sold to it."""
        bought = other == self.cloud.name
        by, to = (self.cloud, self.broker.name) if bought else (self.broker, other)
        by.tally(
            "emit", meter, quantity, "--subject", subject, "--id", id,
            "--at", f"{DAY}T10:00:00Z", "--channel", to, "--wait",
        )  # fmt: skip

    def asked(self, period: str, *options: str, code: int = 0) -> Any:
        """What the reseller is told of a period."""
        got, out, err = here.tally(
            self.broker, "passthrough", "--period", period, *options, "--json"
        )
        assert got == code, out + err
        return json.loads(out)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("resale")
    names = ("cloud.example", "broker.example", "beta.example", "gamma.example")
    with nodes.running(folder, names) as parties:
        made = World(folder, *parties)
        for provider, consumer, scale in (
            (made.cloud, made.broker, 3),
            (made.broker, made.beta, 2),
            (made.broker, made.gamma, 2),
        ):
            nodes.pair(provider, consumer)
            terms = TERMS.format(provider=provider.name, consumer=consumer.name, scale=scale)
            nodes.found(provider, consumer, terms)
        (folder / "map.toml").write_text(MAP)
        for n, (other, meter, subject, quantity) in enumerate(IN_TIME):
            made.emit(other, meter, subject, quantity, f"e{n}-{subject[-8:]}")
        made.beta.tally(
            "dispute", "--line", f"{DAY}/tokens/argued", "--amount", "15",
            "--code", "quantity", "--reason", "half of it failed",
        )  # fmt: skip
        nodes.wait_until(
            lambda: any(line["disputed"] == "15" for line in made.broker.json(
                "derive", "--channel", "beta.example")["lines"])
        )  # fmt: skip
        for party in (made.cloud, made.beta, made.gamma):
            made.broker.tally("checkpoint", DAY, "--force", "--channel", party.name)
        made.emit("gamma.example", "tokens", "late", "40", "late")
        for party, to, subjects in (
            (made.cloud, made.broker.name, ("e12-fixed:50", "e14-kept:70")),
            (made.broker, made.beta.name, ("e13-fixed:50",)),
        ):
            for one in subjects:
                id, _, quantity = one.partition(":")
                party.tally(
                    "correct", f"tokens/{id}", "--quantity", quantity,
                    "--reason", "it was less", "--channel", to,
                )  # fmt: skip
        nodes.wait_until(lambda: _late(made) == 2)
        yield made


def _late(made: World) -> int:
    """How many late lines the reseller has of what it buys."""
    lines = made.broker.json("derive", "--channel", made.cloud.name)["lines"]
    return sum(line["late_for"] is not None for line in lines)


def _classes(document: Any, meter: str = "tokens") -> dict[str, tuple[str, str, dict[str, str]]]:
    """What was bought and sold of each subject, and the classes; by the first subject's name."""
    (found,) = [one for one in document["meters"] if meter in (one["upstream"], one["downstream"])]
    return {
        (one["upstream"] or one["downstream"])[0]["subject"]: (
            one["bought"], one["sold"], one["classes"],
        )
        for one in found["subjects"]
    }  # fmt: skip


def test_a_closed_day_adds_up_and_says_why_it_differs(world: World) -> None:
    found = world.asked(DAY, "--map", str(world.folder / "map.toml"), code=1)
    assert _classes(found) == {
        "pool-a": ("500", "500", {}),
        "argued": ("90", "75", {"disputed": "-15"}),
        "fixed": ("60", "60", {}),
        "kept": ("80", "80", {}),
        "lab": ("70", "0", {"own-use": "-70"}),
        "late": ("40", "0", {"late": "-40"}),
        "p0": ("0", "1", {"sold-without-purchase": "1"}),
        "p1": ("1000", "1000", {}),
        "p2": ("500", "450", {"unexplained": "-50"}),
    }
    assert _classes(found, "gpu-hours") == {
        ODD: ("2.500", "2.500", {}),
        "p1": ("1.236", "1.240", {"rounding": "0.004"}),
    }
    assert found["not_compared"] == {
        "peak": "it is a highest value, and highest values do not add up"
    }
    assert [one["open"] for one in (found["upstream"], *found["downstream"])] == [[], [], []]
    tokens = next(one for one in found["meters"] if one["upstream"] == "tokens")
    assert sum(map(int, tokens["classes"].values())) == int(tokens["difference"]) == -174
    assert (found["ok"], tokens["ok"]) == (False, False)


def test_the_next_day_has_what_came_late_and_what_was_not_passed_on(world: World) -> None:
    found = world.asked(NEXT, "--map", str(world.folder / "map.toml"), code=1)
    assert _classes(found) == {
        "fixed": ("-10", "-10", {}),
        "kept": ("-10", "0", {"not-passed-on": "10"}),
        "late": ("0", "40", {"late": "40"}),
    }
    assert found["upstream"]["open"] == [NEXT]


def test_a_month_of_days_has_no_timing(world: World) -> None:
    found = world.asked(MONTH, "--map", str(world.folder / "map.toml"), code=1)
    assert _classes(found)["late"] == ("40", "40", {})
    assert _classes(found)["kept"] == ("70", "80", {"not-passed-on": "10"})
    assert len(found["upstream"]["open"]) == 26


def test_without_a_mapping_the_names_are_the_same(world: World) -> None:
    found = _classes(world.asked(DAY, code=1))
    assert found["pool-a"] == ("300", "0", {"not-resold": "-300"})
    assert found["assistant"] == ("0", "500", {"sold-without-purchase": "500"})


def test_one_customer_alone_and_one_meter(world: World, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(
        'others = "same-names"\n[meters]\n"gpu-hours" = "gpu-hours"\n'
    )
    options = ("--upstream", "cloud.example", "--downstream", "beta.example")
    found = world.asked(DAY, *options, "--map", str(tmp_path / "map.toml"))
    assert [one["upstream"] for one in found["meters"]] == ["gpu-hours"]
    assert [one["peer"] for one in found["downstream"]] == ["beta.example"]
    assert found["not_compared"]["tokens"] == "the mapping does not name it"


def test_people_read_it_in_80_columns(world: World) -> None:
    code, out, _ = here.tally(world.broker, "passthrough", "--period", MONTH)
    assert code == 1
    assert max(map(len, out.splitlines())) <= 80
    for said in ("Not closed yet", "UNEXPLAINED", "rounding of scale", "Not compared: peak"):
        assert said in out


def _prove(world: World, folder: Path, line: str, *options: str) -> Any:
    mapping = str(world.folder / "map.toml")
    return world.asked(DAY, "--map", mapping, "--prove", line, "-o", str(folder), *options)


def test_a_customers_line_is_proved_to_an_auditor_and_sealed_for_the_customer(
    world: World, tmp_path: Path
) -> None:
    made = _prove(world, tmp_path, "beta.example/tokens/assistant")
    keys = made["vkeys"]
    vkeys = [part for key in keys["bought"] + keys["sold"] for part in ("--vkey", key)]
    for file in (made["proof"], made["seal"]):
        done = verifying.tally("verify", file, *vkeys)
        assert done.returncode == 0, done.stdout
    assert "500 token on both sides" in done.stdout
    # The customer has the seal alone, and knows its own keys.
    alone = tmp_path / "alone" / "it.seal"
    alone.parent.mkdir()
    alone.write_bytes(Path(made["seal"]).read_bytes())
    beta = world.beta.json("vkey")
    own = ("--vkey", beta["log"], "--vkey", beta["peer_log"])
    document = verifying.tally("verify", str(alone), *own, "--json")
    assert document.returncode == 1
    failed = [c["name"] for c in json.loads(document.stdout)["checks"] if not c["ok"]]
    assert failed == ["sealed", "behind"]
    assert verifying.tally("verify", str(alone), "--of", made["proof"], *vkeys).returncode == 0
    sealed = parse_passthrough(alone.read_bytes())
    assert [
        decode_line(placed.data).subject for one in sealed.sections for placed in one.lines
    ] == ["assistant"]
    assert b"cloud.example" not in alone.read_bytes()
    assert b"cloud.example" in Path(made["proof"]).read_bytes()
    again = _prove(world, tmp_path / "again", "beta.example/tokens/assistant")
    assert again["sha256"] == made["sha256"]


def test_a_subject_with_an_odd_name_leads_nowhere_and_turns_nothing(
    world: World, tmp_path: Path
) -> None:
    made = _prove(world, tmp_path / "in", f"beta.example/gpu-hours/{ODD}")
    for file in (made["proof"], made["seal"]):
        assert Path(file).parent == tmp_path / "in"
        assert len(Path(file).name.encode()) < 255
    keys = made["vkeys"]["bought"] + made["vkeys"]["sold"]
    options = [part for key in keys for part in ("--vkey", key)]
    assert verifying.tally("verify", made["seal"], *options).returncode == 0
    assert "\u202e" not in here.tally(world.broker, "passthrough", "--period", DAY)[1]


@pytest.mark.parametrize(
    ("line", "period", "code", "said"),
    [
        ("gamma.example/tokens/p2", DAY, 1, "500 token was bought, 450 was sold"),
        ("gamma.example/tokens/late", NEXT, 2, f"{NEXT} is not closed with cloud.example"),
        ("beta.example/tokens/nobody", DAY, 2, f"{DAY} has no line tokens/nobody"),
        ("delta.example/tokens/p1", DAY, 2, "nothing is sold to 'delta.example'"),
        ("tokens/p1", DAY, 2, "is no line of a customer"),
    ],
)
def test_what_cannot_be_proved_says_why_and_writes_nothing(
    world: World, tmp_path: Path, line: str, period: str, code: int, said: str
) -> None:
    folder = tmp_path / "out"
    got, _, err = here.tally(
        world.broker, "passthrough", "--period", period, "--prove", line, "-o", str(folder)
    )
    assert got == code
    assert said in " ".join(err.split())
    assert not folder.exists()


def test_no_side_has_anything_of_the_other(world: World) -> None:
    stores = {
        party.name: (party.home / "store" / "data.mdb").read_bytes()
        for party in (world.cloud, world.broker, world.beta, world.gamma)
    }
    for party, others in (
        ("cloud.example", ("beta.example", "gamma.example", "assistant")),
        ("beta.example", ("cloud.example", "gamma.example", "pool-a")),
        ("gamma.example", ("cloud.example", "beta.example", "pool-a")),
    ):
        for name in others:
            assert name.encode() not in stores[party]
            assert name.encode() in stores["broker.example"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--upstream", "beta.example"), "we are the consumer of no channel that matches"),
        (("--downstream", "cloud.example"), "we are the provider of no channel that matches"),
        (("--period", "2026"), "'2026' is no period in UTC"),
        (("--period", "2026-W01T"), "is no period in UTC"),
        (("--period", "2026-01-05T10"), "is not made of days"),
        (("--prove", "beta.example/tokens/p1"), "--prove and --output belong together"),
    ],
)
def test_wrong_options_say_what_is_right(world: World, options: tuple[str, ...], said: str) -> None:
    code, _, err = here.tally(world.broker, "passthrough", "--period", DAY, *options)
    assert code == 2
    assert said in " ".join(err.split())


def test_who_resells_nothing_is_told_so(world: World) -> None:
    for party, said in ((world.beta, "the provider of no channel"), (world.cloud, "the consumer")):
        code, _, err = here.tally(party, "passthrough", "--period", DAY)
        assert code == 2
        assert said in " ".join(err.split())


def test_the_ids_that_differ_are_written(world: World, tmp_path: Path) -> None:
    """The last one here, for it changes what others look at."""
    mapping = ("--map", str(world.folder / "map.toml"))
    found = world.asked(MONTH, *mapping, "--events", str(tmp_path / "events.csv"), code=1)
    with (tmp_path / "events.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert found["events"] == {"file": str(tmp_path / "events.csv"), "ids": 5, "shared": 0}
    assert [(row["id"], row["bought"], row["sold"], row["customer"]) for row in rows] == [
        ("e14-kept", "70", "0", ""),
        ("e15-kept", "0", "80", "beta.example"),
        ("e11-p0", "0", "1", "gamma.example"),
        ("e7-p2", "500", "0", ""),
        ("e8-p2", "0", "450", "gamma.example"),
    ]
    assert rows[0]["occurred_at"] == "2026-01-05T10:00:00Z"
    tokens = next(one for one in found["meters"] if one["upstream"] == "tokens")
    left = {"not-passed-on", "sold-without-purchase", "unexplained"}
    assert sum(int(row["difference"]) for row in rows) == sum(
        int(quantity) for name, quantity in tokens["classes"].items() if name in left
    )
    # Sold under the ids under which it was bought, what is the same is not written.
    world.emit("cloud.example", "tokens", "shared", "5", "same")
    world.emit("beta.example", "tokens", "shared", "5", "same")
    world.emit("cloud.example", "tokens", "shared", "7", "other")
    world.emit("beta.example", "tokens", "shared", "9", "other")
    found = world.asked(MONTH, *mapping, "--events", str(tmp_path / "events.csv"), code=1)
    assert (found["events"]["ids"], found["events"]["shared"]) == (6, 2)
    with (tmp_path / "events.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["id"] in ("same", "other")]
    assert (row["id"], row["bought"], row["sold"], row["difference"]) == ("other", "7", "9", "2")
    code, out, _ = here.tally(
        world.broker, "passthrough", "--period", MONTH, "--events", str(tmp_path / "events.csv")
    )
    assert code == 1
    assert "are on both sides." in out
