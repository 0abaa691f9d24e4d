"""The page's parts by themselves: signatures, time zones, trees, records, texts."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import verifying
from playwright.sync_api import Browser

from tallystick.protocol.errors import PeriodError, ProofError
from tallystick.protocol.keys import verify_signature
from tallystick.protocol.periods import Calendar

VECTORS = Path(__file__).parents[2] / "vectors"

_BYTES = "const bytes = text => Uint8Array.from(text.match(/../g) ?? [], two => parseInt(two, 16));"

# Ed25519 at its edges: (key, message, signature). Implementations are known to differ on these.
_KEY = "6f6ca5462ae560235abfc4bf18f762edd72bc1a7de9e49eec0aeb5ecaa8d37ce"
_R = "684c0d53ab44de46d526ab4d33b5947bab9d77af687fe0a09518a5f6df4a86eb"
_MIXED = "e5a369e1f023bf3db449eaf229b077c8c283b7346a74980f56411efb8e0e3899"
_ONE = "01" + "00" * 31
EDGES = {
    "S of the order and more": (
        _KEY,
        "6d30",
        _R + "6f96557e21151be84412a087cfdd1618a39b2ad5708de4ef89d59f5682afa41b",
    ),
    "a key with a part of small order, which does not matter here": (
        _MIXED,
        "6d3131",
        _R + "c34b6fa2610936cd37f95b2b115b3d751c7b243997a22ebe46f1e2c0a8fd8f01",
    ),
    "a key with a part of small order, which does": (
        _MIXED,
        "6d30",
        _R + "d46d673c74fcbd788b8f64bbff874fae35c03f08a7f38073d412ee9ae0cdf807",
    ),
    "R with a part of small order": (
        _KEY,
        "6d30",
        "dfd3145e691e9b998cb20bd6e1790ccfbd79f23e01dc20a7349e3aec7193acf6"
        "87f9e845f532c78b9246c033f5bfef8271ae9d8a63c3a93e11f028a23890af0a",
    ),
    "R of small order": (
        _KEY,
        "7330",
        _ONE + "40a61a5133750df9dd672334d288e5f7cd51d02b1eb5c011d8317605b7478c05",
    ),
    "a key of order 8": (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "7336",
        _R + "b112f47e5fdab40d" + "00" * 24,
    ),
    "a key of order 2": ("ec" + "ff" * 30 + "7f", "7330", _R + "b112f47e5fdab40d" + "00" * 24),
    "a key that is not reduced": ("ee" + "ff" * 30 + "7f", "78", _ONE + "00" * 32),
    "a key of minus zero": ("01" + "00" * 30 + "80", "78", _ONE + "00" * 32),
    "a key that is no point": ("02" + "00" * 31, "78", _ONE + "00" * 32),
    "a signature that is too short": (_KEY, "78", _ONE),
}


def test_signatures_at_the_edges_are_judged_alike(chromium: Browser, tmp_path: Path) -> None:
    ours = {}
    for name, (key, message, signature) in EDGES.items():
        try:
            verify_signature(*map(bytes.fromhex, (key, message, signature)), "it")
            ours[name] = True
        except ProofError:
            ours[name] = False
    assert list(filter(ours.get, ours)) == [list(EDGES)[1]]
    with verifying.modules(chromium, tmp_path, "signatures.js") as page:
        theirs = page.evaluate(
            f"""async edges => {{ {_BYTES}
                const {{verifySignature}} = modules["signatures.js"];
                const found = {{}};
                for (const [name, parts] of Object.entries(edges)) {{
                    found[name] = await verifySignature(...parts.map(bytes), "it")
                        .then(() => true, () => false);
                }}
                return found;
            }}""",
            EDGES,
        )
    assert theirs == ours


# Zones with half hours, dates that were skipped, and changes at midnight.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu",
    "America/Sao_Paulo", "Pacific/Chatham", "Asia/Beirut", "America/Havana", "UTC", "Etc/GMT+11",
    "Africa/Monrovia",
)  # fmt: skip
CALENDARS = ("hour", "day", "week", "month")


def instants(zone: str, calendar: str) -> list[int]:
    """Seeded instants from 1970 to 2024, many near midnights and changes of the clock."""
    chance = random.Random(f"{zone} {calendar}")
    first, last = 0, int(datetime(2024, 6, 1, tzinfo=UTC).timestamp())
    found = [chance.randrange(first, last) * 1_000_000 + chance.randrange(10**6) for _ in range(25)]
    around = {
        "Europe/Berlin": 1_603_587_600,
        "America/New_York": 1_604_210_400,
        "Australia/Lord_Howe": 1_617_461_400 - 3600,
        "Pacific/Apia": 1_325_239_200,
        "America/Sao_Paulo": 1_541_300_400,
        "Asia/Beirut": 1_616_882_400,
        "America/Havana": 1_604_206_800,
    }.get(zone, 1_600_000_000)
    return found + [(around + step * 900) * 1_000_000 for step in range(-10, 11)]


def labels(calendar: str) -> list[str]:
    return {
        "hour": [
            "2020-10-25T02", "2020-10-25T02+01:00", "2021-03-28T02", "2021-04-04T01",
            "2021-04-04T01+11:00", "2020-11-01T00-04:00", "2018-11-04T00", "1969-11-30T00",
            "2020-02-30T00", "2020-10-25T24", "x",
        ],
        "day": ["2011-12-30", "2018-11-04", "2021-03-28", "2021-02-29", "9999-01-01", "2021-3-2"],
        "week": ["2020-W53", "2021-W53", "2021-W00", "2011-W52", "0000-W01", "2021-W1"],
        "month": ["2011-12", "2021-13", "0001-01", "9998-12", "9999-01", "2021-1", "2021-10 "],
    }[calendar]  # fmt: skip


def by_calendar(zone: str, calendar: str) -> list[Any]:
    found: list[Any] = []
    made = Calendar(calendar, zone)
    for instant in instants(zone, calendar):
        period = made.period_of(instant)
        found.append([period.label, str(period.start_us), str(period.end_us)])
    for label in labels(calendar):
        try:
            period = made.parse(label)
            found.append([label, str(period.start_us), str(period.end_us)])
        except PeriodError as error:
            found.append(str(error))
    return found


def test_periods_are_the_same_in_every_zone_and_calendar(chromium: Browser, tmp_path: Path) -> None:
    with verifying.modules(chromium, tmp_path, "periods.js") as page:
        for zone in ZONES:
            for calendar in CALENDARS:
                given = [str(instant) for instant in instants(zone, calendar)]
                theirs = page.evaluate(
                    """([calendar, zone, instants, labels]) => {
                        const made = new modules["periods.js"].Calendar(calendar, zone);
                        const shown = one => [one.label, String(one.start_us), String(one.end_us)];
                        return [
                            ...instants.map(at => shown(made.periodOf(BigInt(at)))),
                            ...labels.map(label => {
                                try { return shown(made.parse(label)); }
                                catch (error) { return error.sentence; }
                            }),
                        ];
                    }""",
                    [calendar, zone, given, labels(calendar)],
                )
                assert theirs == by_calendar(zone, calendar), (zone, calendar)


def test_names_that_are_no_zones_are_refused(chromium: Browser, tmp_path: Path) -> None:
    names = ["europe/berlin", "Europe/Berlin ", "+01:00", "+01", "-0100", "Mars/Base", "", "utc"]
    names += ["../etc/passwd", "Europe/Berlin/", "A" * 65]
    for name in names:
        with pytest.raises(PeriodError):
            Calendar("day", name)
    with verifying.modules(chromium, tmp_path, "zones.js") as page:
        said = page.evaluate(
            """names => names.map(name => {
                try { modules["zones.js"].zoneNamed(name); return name; }
                catch (error) { return error.message; }
            })""",
            names,
        )
    assert said == [f"there is no time zone {name!r}" for name in names]


def test_records_that_are_refused_are_refused(chromium: Browser, tmp_path: Path) -> None:
    document = json.loads((VECTORS / "records.json").read_text())
    records = [case["bytes"] for case in document["records"]]
    refused = [case["bytes"] for case in document["refused"]]
    assert records
    assert refused
    with verifying.modules(chromium, tmp_path, "records.js") as page:
        taken = page.evaluate(
            f"""cases => {{ {_BYTES}
                return cases.map(one => {{
                    try {{ return modules["records.js"].decodeRecord(bytes(one)).kind; }}
                    catch (error) {{ return null; }}
                }});
            }}""",
            records + refused,
        )
    assert all(taken[: len(records)])
    assert not any(taken[len(records) :])


def test_trees_are_those_of_the_standard(chromium: Browser, tmp_path: Path) -> None:
    tree = json.loads((VECTORS / "rfc6962.json").read_text())
    with verifying.modules(chromium, tmp_path, "merkle.js") as page:
        roots = page.evaluate(
            f"""inputs => {{ {_BYTES}
                const {{leafHash, rootOf}} = modules["merkle.js"];
                const {{hexOf}} = modules["bytes.js"];
                const leaves = inputs.map(input => leafHash(bytes(input)));
                return [...leaves.keys(), leaves.length]
                    .map(size => hexOf(rootOf(leaves.slice(0, size))));
            }}""",
            tree["inputs"],
        )
    assert roots == tree["roots"]


def test_texts_are_ordered_by_code_points(chromium: Browser, tmp_path: Path) -> None:
    texts = ["", "a", "ab", "b", "é", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "\ud7ff"]
    with verifying.modules(chromium, tmp_path, "bytes.js") as page:
        ordered = page.evaluate(
            'texts => texts.toReversed().sort(modules["bytes.js"].compareText)', texts
        )
    assert ordered == sorted(texts)
