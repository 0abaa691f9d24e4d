"""What this node does not do, and says so: another's records, and customers made by a dashboard."""

from __future__ import annotations

from tallystick.node.api.pacspace.calls import Call
from tallystick.node.api.pacspace.fields import Fields
from tallystick.node.api.pacspace.wire import Refusal


def no_records() -> Refusal:
    """Everything about records: no part of settlement. 501 is not tried again."""
    return Refusal(
        501,
        "records are not served here: this node keeps usage that two parties settle, not documents",
        "NOT_SUPPORTED",
    )


async def make_customer(call: Call) -> object:
    """POST /dashboard/customers: a customer here is a party that signed terms, which takes two."""
    fields = Fields.read(call.body)
    fields.needed_text("displayName", 500)
    id_ = fields.text("customerId", 128)
    if id_ is not None and id_ in call.customers.ids():
        raise Refusal(409, f"the customer {id_!r} is there already", "CUSTOMER_EXISTS")
    raise Refusal(
        501,
        "customers are not made here: a customer is a peer that signed terms with this party."
        " Pair with it (tally invite), agree on terms (tally propose), and its name is a customer;"
        " give other ids in config.toml: [[pacspace.customers]]",
        "NOT_SUPPORTED",
    )
