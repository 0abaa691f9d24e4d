"""Where webhooks may be sent, and where never."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import httpcore
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tallystick.node.errors import EndpointError
from tallystick.node.webhooks.addresses import GuardedBackend, check_address, check_url


@pytest.mark.parametrize(
    "url",
    [
        "https://billing.example/hooks",
        "https://10.0.0.5:8443/",
        "https://[fd00::1]/x?token=1",
        "http://localhost:8080/hook",
        "http://127.0.0.1/",
        "http://[::1]:9/",
        "https://billing.example/h%C3%A4k",
    ],
)
def test_taken(url: str) -> None:
    check_url(url, allow_http=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://billing.example/", "unencrypted"),
        ("http://10.0.0.5/", "unencrypted"),
        ("http://localhost.example/", "unencrypted"),
        ("ftp://billing.example/", "not an address of the web"),
        ("file:///etc/passwd", "not an address of the web"),
        ("billing.example", "not an address of the web"),
        ("", "not an address of the web"),
        ("https://", "not an address of the web"),
        ("https://user:secret@billing.example/", "user name"),
        ("https://billing.example/#here", "fragment"),
        ("https://billing.example:99999/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://billing.example/a b", "characters"),
        ("https://billing.example/\r\nX-Evil: 1", "characters"),
        ("https://bücher.example/", "characters"),
        ("https://billing.example/" + "x" * 3000, "too long"),
    ],
)
def test_refused(url: str, said: str) -> None:
    with pytest.raises(EndpointError, match=said):
        check_url(url, allow_http=False)


def test_http_elsewhere_only_if_somebody_says_so() -> None:
    check_url("http://billing.example/", allow_http=True)


@given(st.text())
def test_any_text_is_taken_or_refused(url: str) -> None:
    try:
        check_url(url, allow_http=True)
    except EndpointError:
        return
    assert url.startswith(("http://", "https://")) or url.lower().startswith(("http:", "https:"))


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
     "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "240.0.0.1",
     "fd20:ce::254", "168.63.129.16", "192.0.0.192", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
def test_addresses_that_no_receiver_has(address: str) -> None:
    with pytest.raises(EndpointError):
        check_address(ipaddress.ip_address(address), loopback_only=False)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "fd00::1", "93.184.216.34"])
def test_without_encryption_nothing_but_this_machine(address: str) -> None:
    check_address(ipaddress.ip_address(address), loopback_only=False)
    with pytest.raises(EndpointError, match="unencrypted"):
        check_address(ipaddress.ip_address(address), loopback_only=True)
    check_address(ipaddress.ip_address("127.0.0.1"), loopback_only=True)
    check_address(ipaddress.ip_address("::ffff:127.0.0.1"), loopback_only=True)


async def test_a_name_that_leads_to_such_an_address_is_not_dialled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dialled: list[str] = []

    class Names(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
            found = {"trap.example": "169.254.169.254", "fine.example": "127.0.0.1"}
            return [(2, 1, 6, "", (found[host.decode()], port))]

        async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
            raise AssertionError

    async def connect(self: object, host: str, *rest: Any) -> None:
        dialled.append(host)

    monkeypatch.setattr(httpcore.TrioBackend, "connect_tcp", connect)
    trio.socket.set_custom_hostname_resolver(Names())
    backend = GuardedBackend(loopback_only=False)
    with pytest.raises(EndpointError, match=r"169\.254"):
        await backend.connect_tcp("trap.example", 80)
    await backend.connect_tcp("fine.example", 80)
    assert dialled == ["127.0.0.1"]
    with pytest.raises(EndpointError):
        await backend.connect_unix_socket(str(tmp_path / "s"))


@pytest.mark.parametrize("host", ["a" * 64 + ".localhost", "a..localhost"])
async def test_a_name_that_cannot_be_is_not_found(host: str) -> None:
    backend = GuardedBackend(loopback_only=False)
    with pytest.raises(httpcore.ConnectError, match="not found"):
        await backend.connect_tcp(host, 80)
