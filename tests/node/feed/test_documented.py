"""docs/events.md names every kind of event; the tests that tell them check the fields."""

from __future__ import annotations

from documented import PAGE, documented

from tallystick.node.config import FeedConfig, WebhooksConfig
from tallystick.node.feed.events import KINDS
from tallystick.node.template import TEMPLATE
from tallystick.node.webhooks.endpoints import HOSTED


def test_every_kind_is_documented_and_no_other() -> None:
    assert [kind for kind in (*KINDS, *HOSTED) if kind not in documented()] == []
    assert [kind for kind in documented() if kind not in (*KINDS, *HOSTED)] == []


def test_defaults_that_the_page_names_are_those_of_the_settings() -> None:
    page = " ".join(PAGE.read_text().split())
    feed, webhooks = FeedConfig(), WebhooksConfig()
    assert f"for {feed.keep_days} days, and no more than {feed.keep_events:,}" in page
    assert f"`feed.silent_seconds`, {feed.silent_seconds:g}" in page
    assert f"told {feed.due_hours:g} hours before" in page
    assert f"within {webhooks.timeout_seconds:g} seconds" in page
    assert f"After {webhooks.attempts} attempts" in page
    assert f"is {webhooks.give_up_hours:g} hours old" in page
    assert f"after about {webhooks.first_retry_seconds:g}, 4, 8" in page
    for name in (*FeedConfig.__struct_fields__, *WebhooksConfig.__struct_fields__):
        assert f"# {name} = " in TEMPLATE
