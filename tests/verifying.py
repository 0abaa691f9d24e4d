"""The verifier's page in a real browser, and what `tally verify` says of the same files."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browsers
from playwright.sync_api import Browser, Page

from tallystick.node.cli.proofs import checks_of
from tallystick.node.verifier.page import assembled, verifier_page
from tallystick.protocol.keyring import Keyring
from tallystick.protocol.keys import parse_vkey
from tallystick.protocol.records import ROLES, Terms, decode_record

READY = "html[data-ready=true]"
DONE = "#announced:not(:empty)"


@dataclass(frozen=True)
class Given:
    """What is handed over: a file, the leaf or line beside it, and the keys that are expected."""

    data: bytes
    beside: bytes | None = None
    keys: tuple[str, ...] = ()


VECTORS = Path(__file__).parent / "vectors"

Found = list[tuple[int, str, bool, str]]


def tally(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line itself."""
    main = "from tallystick.node.cli import main; main()"
    command = [sys.executable, "-c", main, *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def by_python(given: Given) -> Found:
    """What `tally verify` finds."""
    keys = [parse_vkey(key) for key in given.keys]
    checks = checks_of(io.BytesIO(given.data), given.beside, keys)
    return [(check.number, check.name, check.ok, check.detail) for check in checks]


@contextmanager
def verifier(browser: Browser, folder: Path, **options: Any) -> Iterator[Page]:
    """The page, as a file on this disk, ready for files."""
    path = folder / "verify.html"
    path.write_bytes(verifier_page())
    with browsers.opened(browser, **options) as page:
        page.goto(path.as_uri())
        page.wait_for_selector(READY)
        yield page


_CHECKED = """async given => {
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const found = [];
    for (const {data, beside, keys} of given) {
        const files = [new File([bytes(data)], "it.proof")];
        if (beside !== null) {
            files.push(new File([bytes(beside)], "it.leaf"), new File([bytes(beside)], "it.line"));
            files.push(new File([bytes(beside)], "it.passthrough"));
        }
        const [{checks}] = await tallystick.checked(files, keys);
        found.push(checks.map(check => [check.number, check.name, check.ok, check.detail]));
    }
    return found;
}"""


def by_browser(page: Page, given: Sequence[Given]) -> list[Found]:
    """What the page finds, file for file."""
    sent = [
        {
            "data": base64.b64encode(one.data).decode(),
            "beside": None if one.beside is None else base64.b64encode(one.beside).decode(),
            "keys": list(one.keys),
        }
        for one in given
    ]
    return [
        [(number, name, ok, detail) for number, name, ok, detail in checks]
        for checks in page.evaluate(_CHECKED, sent)
    ]


def outcomes(found: Found) -> list[tuple[int, str, bool]]:
    """The checks without what they say: what must be the same everywhere."""
    return [check[:3] for check in found]


@contextmanager
def modules(browser: Browser, folder: Path, main: str) -> Iterator[Page]:
    """An empty page in which `modules` are the verifier's, up to the one that is named."""
    path = folder / "empty.html"
    path.write_text("<!doctype html><html lang=en><title>empty</title>")
    with browsers.opened(browser) as page:
        page.goto(path.as_uri())
        page.evaluate(f"() => {{ {assembled(main)}; globalThis.modules = modules; }}")
        yield page


def proofs() -> dict[str, Given]:
    """The vectors of what names no keys, with the keys that are to be expected."""
    delta = json.loads((VECTORS / "tlog-proof.json").read_text())
    line = json.loads((VECTORS / "line-proof.json").read_text())
    terms = decode_record(bytes.fromhex(line["terms"]))
    assert isinstance(terms, Terms)
    logs = tuple(str(Keyring(terms).log_vkeys(role)[0]) for role in ROLES)
    proof = line["proof"].encode()
    resold = json.loads((VECTORS / "passthrough.json").read_text())
    sale, keys = (VECTORS / "resold.passthrough").read_bytes(), tuple(resold["keys"])
    return {
        "passthrough": Given(sale, None, keys),
        "seal": Given((VECTORS / "resold.seal").read_bytes(), sale, keys),
        "delta": Given(
            delta["proof"].encode(),
            bytes.fromhex(delta["leaf"]),
            (delta["log_vkey"], delta["cosigner_vkey"]),
        ),
        "line": Given(proof, bytes.fromhex(line["line"]), logs),
        "note": Given(proof[proof.index(b"tallystick checkpoint v1") :], None, logs),
    }
