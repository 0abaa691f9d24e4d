"""The signature, as the hosted service's own client checks it."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pacspace_sdk.errors import WebhookVerificationError
from pacspace_sdk.webhooks import Webhooks

from tallystick.node.webhooks.signing import new_secret, signature_headers

BODY = '{"id":"evt_1","event":"dispute.opened","data":{"said":"Größe"}}'


def test_a_known_signature() -> None:
    headers = signature_headers(["whsec_known"], b'{"a":1}', 1_800_000_000)
    expected = hmac.new(b"whsec_known", b'1800000000.{"a":1}', hashlib.sha256).hexdigest()
    assert headers == {
        "X-PacSpace-Signature": f"v1={expected}",
        "X-PacSpace-Timestamp": "1800000000",
    }


@given(st.text().filter(lambda text: text.isprintable()))
def test_their_client_accepts_what_we_sign(text: str) -> None:
    secret, body = new_secret(), json.dumps({"said": text}, ensure_ascii=False)
    headers = signature_headers([secret], body.encode(), int(time.time()))
    assert Webhooks(secret).verify_from_headers(headers, body)["said"] == text


def test_while_a_secret_is_changed_both_holders_accept() -> None:
    new, old = new_secret(), new_secret()
    headers = signature_headers([new, old], BODY.encode(), int(time.time()))
    for secret in (new, old):
        assert Webhooks(secret).verify_from_headers(headers, BODY)["id"] == "evt_1"
    with pytest.raises(WebhookVerificationError, match="mismatch"):
        Webhooks(new_secret()).verify_from_headers(headers, BODY)
    with pytest.raises(WebhookVerificationError, match="mismatch"):
        Webhooks(new).verify_from_headers(headers, BODY.replace("opened", "lapsed"))


def test_an_old_signature_is_not_accepted() -> None:
    secret = new_secret()
    headers = signature_headers([secret], BODY.encode(), int(time.time()) - 600)
    with pytest.raises(WebhookVerificationError):
        Webhooks(secret).verify_from_headers(headers, BODY)
