"""Batches and the client's summaries: each item for itself, and nothing dropped from its queue."""

from __future__ import annotations

from typing import Any

import pytest
from pacspace_sdk import PacSpaceError
from pacspace_world import World

QUIET = {"autoStart": False, "autoFlushOnShutdown": False, "maxRequestsPerMinute": 60_000}


def _summary(customer: str, delta: float, hour: int = 0, **more: Any) -> dict[str, Any]:
    window = {
        "windowStart": f"2026-10-01T{hour:02}:00:00Z",
        "windowEnd": f"2026-10-01T{hour:02}:30:00Z",
    }
    return {"customerId": customer, "delta": delta, **window, **more}


def test_summaries_are_flushed_once(world: World, customer: str) -> None:
    pac = world.client("emit", "read", submission=QUIET)
    pac.balance.queue_summary(_summary(customer, 5))
    pac.balance.queue_summaries([_summary(customer, 0.1, 1), _summary(customer, 0.2, 2)])
    assert pac.balance.get_summary_queue_state()["queuedCount"] == 3
    done = pac.balance.flush_summaries()
    assert (done["attempted"], done["submitted"], done["failed"]) == (3, 3, 0)
    assert (done["replayed"], done["queuedAfterFlush"], done["failures"]) == (0, 0, [])
    derived = pac.balance.derive(customer)
    assert (derived["computedBalance"], derived["deltasCount"]) == (5.3, 3)
    shown = derived["deltas"][0]
    assert shown["reason"] == "usage_summary"
    assert shown["referenceId"].startswith("sum_")
    assert shown["metadata"]["summaryWindowStart"] == "2026-10-01T02:00:00Z"
    assert shown["metadata"]["submissionType"] == "tenant_summary"
    pac.balance.queue_summary(_summary(customer, 5))
    again = pac.balance.flush_summaries()
    assert (again["submitted"], again["replayed"]) == (1, 1)
    assert pac.balance.derive(customer)["deltasCount"] == 3


def test_one_bad_item_fails_alone(world: World, customer: str) -> None:
    pac = world.client(submission=QUIET)
    for summary in (
        _summary(customer, 1, 0, referenceId=f"{customer}-good"),
        _summary(customer, 0.1 + 0.2, 1),
        _summary("nobody", 1, 2),
        _summary("bad customer!", 1, 3),
        _summary("tokens", 2.5, 4),
    ):
        pac.balance.queue_summary(summary)
    done = pac.balance.flush_summaries()
    assert (done["submitted"], done["failed"], done["queuedAfterFlush"]) == (1, 4, 4)
    said = [failure["error"] for failure in done["failures"]]
    assert "more decimal places" in said[0]
    assert "no customer 'nobody'" in said[1]
    assert "customerId must have" in said[2]
    assert "meter's 0" in said[3]
    assert pac.balance.derive(customer)["deltasCount"] == 1


def test_a_conflict_in_a_batch_is_a_failed_item(world: World, customer: str) -> None:
    pac = world.client(submission=QUIET)
    pac.balance.emit(customer, 1, "usage_summary", {"referenceId": f"{customer}-r"})
    pac.balance.queue_summary(_summary(customer, 2, 0, referenceId=f"{customer}-r"))
    pac.balance.queue_summary(_summary(customer, 3, 1))
    done = pac.balance.flush_summaries()
    assert (done["submitted"], done["failed"]) == (1, 1)
    assert "another amount" in done["failures"][0]["error"]
    assert pac.balance.derive(customer)["computedBalance"] == 4


def test_many_summaries_go_in_requests_of_a_hundred(world: World, customer: str) -> None:
    pac = world.client(submission=QUIET)
    for number in range(230):
        reference = f"{customer}-{number}"
        end = f"2026-10-01T{number // 60:02}:{number % 60:02}:30Z"
        start = end.replace(":30Z", ":00Z")
        pac.balance.queue_summary(
            {"customerId": customer, "delta": 1, "windowStart": start, "windowEnd": end,
             "referenceId": reference}
        )  # fmt: skip
    part = pac.balance.flush_summaries({"maxItems": 30})
    assert (part["submitted"], part["queuedAfterFlush"]) == (30, 200)
    done = pac.balance.flush_summaries()
    assert (done["submitted"], done["requestCount"]) == (200, 2)
    derived = pac.balance.derive(customer)
    assert (derived["computedBalance"], derived["deltasCount"]) == (230, 230)


def test_the_scheduler_and_the_shutdown_flush(world: World, customer: str) -> None:
    pac = world.client("emit", submission=QUIET | {"cadenceMs": 3_600_000})
    pac.balance.start_summary_scheduler()
    assert pac.balance.get_summary_queue_state()["isRunning"]
    pac.balance.stop_summary_scheduler()
    assert not pac.balance.get_summary_queue_state()["isRunning"]
    pac.balance.queue_summary(_summary(customer, 5))
    pac.balance.shutdown_summary_scheduler()
    other = world.client("emit", submission=QUIET)
    other.balance.queue_summary(_summary(customer, 6, 1))
    other.shutdown()
    instant = {"profile": "immediate", "enterprise": True, "autoFlushOnShutdown": False}
    immediate = world.client("emit", submission=QUIET | instant)
    immediate.balance.queue_summary(_summary(customer, 7, 2))
    assert world.client().balance.derive(customer)["computedBalance"] == 18


def test_a_failed_request_keeps_everything_queued(world: World, customer: str) -> None:
    pac = world.client("read", submission=QUIET)
    pac.balance.queue_summary(_summary(customer, 5))
    done = pac.balance.flush_summaries()
    assert (done["submitted"], done["failed"], done["queuedAfterFlush"]) == (0, 1, 1)
    with pytest.raises(PacSpaceError):
        world.client("read").balance.emit(customer, 1, "usage")


def test_results_name_every_item_by_its_place(world: World, customer: str) -> None:
    good = {"customerId": customer, "delta": 1.5, "reason": "usage", "referenceId": f"{customer}-x"}
    items = [good, good, good | {"delta": 2}, 7, {"delta": 1}, good | {"referenceId": None}]
    with world.http() as http:
        answer = http.post("/api/v1/balance/delta/batch", json={"deltas": items})
        none = http.post("/api/v1/balance/delta/batch", json={"deltas": []})
        many = http.post("/api/v1/balance/delta/batch", json={"deltas": [good] * 1001})
        wrong = [
            http.post("/api/v1/balance/delta/batch", json=body)
            for body in ({}, {"deltas": None}, {"deltas": {}}, {"deltas": "x"})
        ]
    data = answer.json()["data"]
    assert (answer.status_code, data["totalQueued"], data["totalFailed"]) == (200, 3, 3)
    results = data["results"]
    assert [result["index"] for result in results] == list(range(6))
    states = [result["status"] == "FAILED" for result in results]
    assert states == [False, False, True, True, True, False]
    assert [result["idempotent"] for result in results] == [False, True, *[False] * 4]
    assert results[0]["recordId"] == results[1]["recordId"] != results[5]["recordId"]
    assert all(result["error"] for result in results if result["status"] == "FAILED")
    assert results[2]["code"] == "IDEMPOTENCY_CONFLICT"
    assert none.json()["data"] == {"totalQueued": 0, "totalFailed": 0, "results": []}
    assert [one.status_code for one in (many, *wrong)] == [400] * 5
    assert world.client().balance.derive(customer)["computedBalance"] == 3
