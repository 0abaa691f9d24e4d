"""The witnesses that the configuration names: their keys by the address that they are asked at."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tallystick.node.config import Witnessing
from tallystick.node.webhooks.addresses import check_url, is_loopback
from tallystick.protocol.errors import FormatError, InputError
from tallystick.protocol.keys import ED25519_NOTE, Vkey
from tallystick.protocol.policy import Policy, Witness, k_of_n
from tallystick.protocol.signers import parse_signer

WITNESSES_MAX = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """One address and the keys of the witnesses there, mostly one."""

    url: str
    vkeys: tuple[Vkey, ...]

    @property
    def name(self) -> str:
        """As people know it."""
        return self.vkeys[0].name


def asked_witnesses(settings: Witnessing) -> tuple[Policy, list[Asked]]:
    """The policy of the configuration, and whom to ask; `InputError` names what is wrong."""
    if len(settings.witnesses) > WITNESSES_MAX:
        raise InputError(f"witnessing.witnesses names more than {WITNESSES_MAX}")
    by_url: dict[str, list[Vkey]] = {}
    witnesses: list[Witness] = []
    for number, one in enumerate(settings.witnesses, 1):
        try:
            vkey = parse_signer(one.vkey)
            if vkey.kind == ED25519_NOTE:
                raise InputError(
                    f"the key of {vkey.name} is a log's", "A witness's is of type 0x04"
                )
            url = _checked_url(one.url, allow_http=settings.allow_http)
        except (FormatError, InputError) as error:
            said = f"number {number} of witnessing.witnesses: {error.message}"
            raise InputError(said, error.advice) from None
        by_url.setdefault(url, []).append(vkey)
        taken = any(witness.name == vkey.name for witness in witnesses)
        name = f"{vkey.name}+{vkey.id.hex()}" if taken else vkey.name
        witnesses.append(Witness(name, vkey, url))
    try:
        policy = k_of_n(witnesses, settings.require)
    except InputError as error:
        raise InputError(f"witnessing.require: {error.message}", error.advice) from None
    return policy, [Asked(url, tuple(vkeys)) for url, vkeys in by_url.items()]


def _checked_url(url: str, *, allow_http: bool) -> str:
    check_url(url, allow_http=True)
    parts = urlsplit(url)
    if parts.query:
        raise InputError(f"{url!r} is not a witness's address", "Write https://HOST/PATH")
    host = parts.hostname or ""
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise InputError(
            f"{host} would be asked unencrypted, so that others see which logs grow",
            "Use https, or set witnessing.allow_http = true",
        )
    return url.rstrip("/")
