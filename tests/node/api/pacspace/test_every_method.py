"""Every public method of the installed client, and the test that calls it against a node.

`pytest -s` on this file prints the table; docs/pacspace.md has it for people.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from pacspace_sdk import PacSpace

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[4] / "docs" / "pacspace.md"

EMIT, DERIVE, CLOSE = "test_emitting", "test_deriving", "test_closing"
VIEW, BATCH, ERRORS = "test_overview", "test_batches", "test_errors"
RECORDS = f"{ERRORS}::test_records_are_not_served_and_not_tried_again"
HOOKS = "test_deliveries::test_what_is_emitted_arrives_signed_and_can_be_sent_again"
FLUSH = f"{BATCH}::test_summaries_are_flushed_once"
SCHEDULE = f"{BATCH}::test_the_scheduler_and_the_shutdown_flush"

METHODS = {
    "init": (f"{ERRORS}::test_a_base_url_may_end_in_a_slash", "served"),
    "close": (f"{ERRORS}::test_a_closed_client_asks_nothing", "in the client"),
    "shutdown": (f"{ERRORS}::test_a_closed_client_asks_nothing", "in the client"),
    "verify": (f"{VIEW}::test_an_invoice_proof_can_be_verified_by_anybody", "served, no key"),
    "balance.emit": (f"{EMIT}::test_an_emit_is_answered_and_found_again", "served"),
    "balance.emit_and_wait": (f"{EMIT}::test_emit_and_wait_returns_what_is_co_signed", "served"),
    "balance.delta_status": (f"{EMIT}::test_a_reference_may_be_any_text", "served"),
    "balance.get_record_status": (f"{EMIT}::test_an_emit_is_answered_and_found_again", "served"),
    "balance.wait_for_verified": (f"{EMIT}::test_an_emit_is_answered_and_found_again", "served"),
    "balance.derive": (f"{DERIVE}::test_every_form_of_this_month_is_the_same", "served"),
    "balance.derive_current_month": (
        f"{DERIVE}::test_every_form_of_this_month_is_the_same", "served",
    ),
    "balance.derive_for_period": (f"{DERIVE}::test_every_form_of_this_month_is_the_same", "served"),
    "balance.derive_months_back": (
        f"{DERIVE}::test_every_form_of_this_month_is_the_same", "served",
    ),
    "balance.compare": (f"{DERIVE}::test_compare_is_exact_and_a_mismatch_is_an_answer", "served"),
    "balance.checkpoint": (f"{CLOSE}::test_a_month_of_days_is_closed_by_both", "served"),
    "balance.list_checkpoints": (f"{CLOSE}::test_a_month_of_days_is_closed_by_both", "served"),
    "balance.receipt": (f"{VIEW}::test_a_receipt_is_of_all_time_and_proves_itself", "served"),
    "balance.invoice_proof": (
        f"{VIEW}::test_an_invoice_proof_can_be_verified_by_anybody", "served",
    ),
    "balance.customers": (f"{VIEW}::test_customers_are_listed_in_pages", "served"),
    "balance.customer": (f"{VIEW}::test_one_customer_with_its_activity", "served"),
    "balance.usage": (f"{VIEW}::test_there_is_always_as_much_left", "served, unlimited"),
    "balance.gaps": (f"{VIEW}::test_a_log_has_no_gaps", "served"),
    "balance.list_webhook_deliveries": (HOOKS, "served"),
    "balance.retry_webhook": (HOOKS, "served"),
    "balance.queue_summary": (FLUSH, "in the client"),
    "balance.queue_summaries": (FLUSH, "in the client"),
    "balance.get_summary_queue_state": (FLUSH, "in the client"),
    "balance.flush_summaries": (FLUSH, "served"),
    "balance.start_summary_scheduler": (SCHEDULE, "in the client"),
    "balance.stop_summary_scheduler": (SCHEDULE, "in the client"),
    "balance.shutdown_summary_scheduler": (SCHEDULE, "served"),
    "balance.submission.queue_summary": (FLUSH, "in the client"),
    "balance.submission.queue_summaries": (FLUSH, "in the client"),
    "balance.submission.get_queue_state": (FLUSH, "in the client"),
    "balance.submission.flush_summaries": (FLUSH, "served"),
    "balance.submission.start": (SCHEDULE, "in the client"),
    "balance.submission.stop": (SCHEDULE, "in the client"),
    "balance.submission.shutdown": (SCHEDULE, "served"),
    "customers.create": (f"{ERRORS}::test_customers_are_made_by_pairing", "501: pair instead"),
    **dict.fromkeys(
        (
            "records.emit", "records.receipt", "records.history", "records.bundle",
            "records.open", "records.grants.create", "records.grants.list",
            "records.grants.revoke", "records.holders.add", "records.holders.list",
            "records.holders.remove", "records.holdings.list", "records.holdings.confirm",
            "records.identity.register", "records.rotate", "records.rekey",
            "records.record_key", "records.keep_copy", "records.share_key_wrap",
        ),
        (RECORDS, "501, not tried again"),
    ),
    **dict.fromkeys(
        ("records.check", "records.wire_id", "records.wire_reference_id"),
        (RECORDS, "in the client"),
    ),
    "webhooks.verify": (HOOKS, "in the client"),
    "webhooks.verify_from_headers": (HOOKS, "in the client"),
}  # fmt: skip


def _public(thing: object, prefix: str = "") -> set[str]:
    """The names of all methods that users of the client may call."""
    found = set()
    for name in dir(thing):
        if name.startswith("_"):
            continue
        value = getattr(thing, name)
        if inspect.ismethod(value) or inspect.isfunction(value):
            found.add(prefix + name)
        elif type(value).__module__.startswith("pacspace_sdk"):
            found |= _public(value, f"{prefix}{name}.")
    return found


def test_no_method_of_the_client_is_missing() -> None:
    pac = PacSpace.init("key", base_url="http://127.0.0.1:1", webhook_secret="whsec_x")
    assert _public(pac) == set(METHODS)
    for method in sorted(METHODS):
        test, answered = METHODS[method]
        print(f"{method:38} {answered:22} {test}")
        file, _, name = test.partition("::")
        text = (HERE / f"{file}.py").read_text()
        body = re.search(rf"^def {name}\(.*?(?=^def |\Z)", text, re.MULTILINE | re.DOTALL)
        assert body, test
        # What the client does by itself, it does inside another method of the same name.
        called = method.rpartition(".")[2]
        if "submission" not in method:
            assert f".{called}(" in body[0] or f".{called}," in body[0], (method, test)


def test_every_method_is_on_the_page() -> None:
    page = PAGE.read_text()
    missing = [
        name
        for name in sorted(METHODS)
        if not name.startswith(("records.", "balance.submission")) and f"`{name}`" not in page
    ]
    assert missing == []
    assert "`records" in page
