"""The signature of a webhook, as the hosted service's client verifies it.

`X-PacSpace-Signature: v1=HEX` is the HMAC-SHA256 of `TIMESTAMP.BODY` under the endpoint's secret,
taken as text with its `whsec_`; while a secret is changed there is one for each, with commas.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

SIGNATURE_HEADER = "X-PacSpace-Signature"
TIMESTAMP_HEADER = "X-PacSpace-Timestamp"


def new_secret() -> str:
    """A secret that nobody knows: 256 bits."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def signature_headers(keys: Sequence[str], body: bytes, at_s: int) -> dict[str, str]:
    """The two headers for a body that is sent now, under each of these secrets."""
    message = b"%d." % at_s + body
    signatures = (hmac.new(key.encode(), message, hashlib.sha256).hexdigest() for key in keys)
    shown = ",".join(f"v1={signature}" for signature in signatures)
    return {SIGNATURE_HEADER: shown, TIMESTAMP_HEADER: str(at_s)}
