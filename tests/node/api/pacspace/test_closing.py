"""Checkpoints of periods that are over: both parties sign, and what was signed stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pacspace_world
import pytest
from pacspace_sdk import PacSpace, PacSpaceError, ValidationError
from pacspace_world import World

MARCH, APRIL = "2025-03", "2025-04"


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A channel whose periods are days in UTC, with usage in two months."""
    with pacspace_world.made(tmp_path_factory.mktemp("days"), "day") as made:
        for number, day in enumerate(("2025-03-03", "2025-03-05", "2025-04-30", "2025-05-01")):
            for customer in (1, 2):
                _use(made, customer, 10**number * customer, f"{day}T12:00:00Z")
        yield made


def _use(world: World, customer: int, amount: float, at: str) -> None:
    world.acme.tally(
        "emit", "credits", str(amount), "--subject", f"s{customer}",
        "--id", f"{customer}-{at}", "--at", at, "--wait",
    )  # fmt: skip


def test_a_month_of_days_is_closed_by_both(days: World, tmp_path: Path) -> None:
    pac = days.client()
    with pytest.raises(ValidationError, match="2025-03-03 is not closed yet and has usage"):
        pac.balance.checkpoint("c1", {"period": APRIL})
    open_proof = pac.balance.invoice_proof("c1", {"period": MARCH})
    assert (open_proof["final"], open_proof["computedBalance"]) == (False, 11)
    made = pac.balance.checkpoint("c1", {"period": MARCH, "fingerprints": ["f"]})
    assert (made["status"], made["final"], made["period"]) == ("VERIFIED", True, MARCH)
    assert (made["computedBalance"], made["deltasCount"]) == (11, 2)
    assert made["checkpointId"].endswith(":2025-03-31")

    # The root is the digest of what both signed, and a bundle proves it offline.
    last = days.acme.json("checkpoint", "2025-03-31")
    assert made["proofRoot"] == last["digest"]
    bundle = tmp_path / "march.tally"
    days.beta.tally("bundle", "2025-03-05", "-o", str(bundle))
    assert days.beta.tally("verify", str(bundle)).returncode == 0

    proof = pac.balance.invoice_proof("c1", {"period": MARCH})
    assert (proof["proofRoot"], proof["final"]) == (made["proofRoot"], True)
    assert (proof["computedBalance"], proof["payable"]) == (11, 11)
    days_closed = ["2025-03-03", "2025-03-05", "2025-03-31"]
    assert [url.rpartition("/")[2] for url in proof["bundleUrls"]] == days_closed
    verified = PacSpace.init("nobody", base_url=days.url).verify(made["proofRoot"])
    assert verified["verified"]
    assert verified["summary"]["period"] == "2025-03-31"
    assert verified["recordedAt"]
    assert verified["evidence"].startswith("tallystick checkpoint v1\n")

    again = pac.balance.checkpoint("c1", {"period": MARCH})
    assert again["proofRoot"] == made["proofRoot"]
    assert again["createdAt"] == made["createdAt"]
    other = pac.balance.checkpoint("c2", {"period": MARCH})
    assert (other["computedBalance"], other["proofRoot"]) == (22, made["proofRoot"])
    listed = pac.balance.list_checkpoints({"customerId": "c1", "period": MARCH})["checkpoints"]
    closed = {one["period"]: one["computedBalance"] for one in listed if one["final"]}
    assert closed == {"2025-03-03": 1, "2025-03-05": 10, "2025-03-31": 0}
    assert {one["status"] for one in listed} == {"VERIFIED"}


def test_what_was_closed_stays_and_what_is_late_is_derived(days: World) -> None:
    pac = days.client()
    made = pac.balance.checkpoint("c1", {"period": MARCH})
    _use(days, 1, 0.5, "2025-03-05T13:00:00Z")
    assert pac.balance.derive("c1", {"period": MARCH})["computedBalance"] == 11.5
    proof = pac.balance.invoice_proof("c1", {"period": MARCH})
    assert (proof["computedBalance"], proof["proofRoot"]) == (11, made["proofRoot"])
    after = pac.balance.derive("c1", {"startingCheckpoint": made["checkpointId"]})
    assert (after["computedBalance"], after["deltasCount"]) == (1100.5, 3)
    assert [delta["delta"] for delta in after["deltas"]] == [0.5, 1000, 100]
    by_root = pac.balance.derive("c1", {"startingCheckpoint": made["proofRoot"]})
    assert by_root["computedBalance"] == 1100.5


def test_all_customers_at_once_and_many_who_ask(days: World) -> None:
    pac = days.client()
    pac.balance.checkpoint("c1", {"period": MARCH})

    def close(_: int) -> Any:
        return days.client().balance.checkpoint("c1", {"period": APRIL})["proofRoot"]

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(close, range(6)))) == 1
    with pytest.raises(PacSpaceError):  # some customers of this node are mapped to nothing
        pac.balance.checkpoint(None, {"period": APRIL})
    key = days.beta.json("keys", "add", "admin", "--scope", "admin")["key"]
    theirs = PacSpace.init(key, base_url=days.beta.json("status")["http"])
    every = theirs.balance.checkpoint(options={"period": APRIL})
    assert (every["customerId"], every["status"]) == ("acme", "VERIFIED")
    assert len(every["checkpoints"]) == 1
    assert every["proofRoot"] == pac.balance.invoice_proof("c1", {"period": APRIL})["proofRoot"]


def test_a_period_may_be_closed_early_if_it_is_asked_for(days: World) -> None:
    pac = days.client()
    for month in (MARCH, APRIL, "2025-05"):
        pac.balance.checkpoint("c1", {"period": month})
    pac.balance.emit("c1", 3, "usage")
    running = pac.balance.checkpoint("c1")
    assert running["final"] is False
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1)
    today = {"startDate": f"{now:%Y-%m-%d}", "endDate": f"{tomorrow:%Y-%m-%d}"}
    closed = pac.balance.checkpoint("c1", today | {"mode": "close"})
    assert (closed["final"], closed["mode"]) == (True, "close")
    late = {"startDate": "2025-03-05", "endDate": "2025-03-06", "mode": "close"}
    assert pac.balance.checkpoint("c1", late)["final"]  # it is closed already
    month = pac.balance.checkpoint("c1", {"mode": "close"})
    over = tomorrow.month != now.month  # else its other days are to come
    assert (month["final"], month["computedBalance"]) == (over, 3)
    pac.balance.emit("c1", 4, "usage")
    month = pac.balance.derive("c1")
    assert [delta["delta"] for delta in month["deltas"]] == [4, 3]
    assert month["computedBalance"] == 7


def test_months_of_another_zone_are_counted_exactly_and_not_closed(tmp_path: Path) -> None:
    with pacspace_world.made(tmp_path, "month", "Europe/Berlin") as world:
        for amount, at in ((1, "2025-02-28T23:30:00Z"), (2, "2025-03-31T21:59:59Z"),
                           (4, "2025-03-31T22:30:00Z")):  # fmt: skip
            _use(world, 1, amount, at)
        pac = world.client()
        # In Berlin the first belongs to March and the last to April; in UTC it is the other way.
        months = {"2025-02": 1, MARCH: 6, APRIL: 0}
        for month, result in months.items():
            assert pac.balance.derive("c1", {"period": month})["computedBalance"] == result
        made = pac.balance.checkpoint("c1", {"period": MARCH})
        assert (made["final"], made["computedBalance"]) == (False, 6)
        with pytest.raises(ValidationError, match="whole months in Europe/Berlin"):
            pac.balance.checkpoint("c1", {"period": MARCH, "mode": "close"})
        berlin = {"startDate": "2025-03-01T00:00:00+01:00", "endDate": "2025-04-01T00:00:00+02:00"}
        closed = pac.balance.checkpoint("c1", berlin)
        assert (closed["final"], closed["computedBalance"]) == (True, 3)
