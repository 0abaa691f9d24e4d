"""The folder of peers' certificates: OpenSSL finds them there, and nothing else stays in it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import builders
import pytest

from tallystick.node.errors import StoreError
from tallystick.node.transport.tls import certificate_der
from tallystick.node.transport.trusted import TrustedFolder, subject_hash
from tallystick.protocol.keys import Identity


def _certificate(name: str) -> bytes:
    return certificate_der(name, builders.identity(name).transport)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    "name", ["acme.example", "a" * 60 + ".example", "xn--bcher-kva.example", "b-1.c-2.example"]
)
def test_the_hash_is_that_of_openssl(tmp_path: Path, name: str) -> None:
    der = certificate_der(name, Identity.from_seed(name, bytes(32)).transport)
    file = tmp_path / "c.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(der))
    said = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(file)], capture_output=True, text=True
    )
    assert subject_hash(der) == said.stdout.strip()


def _held(folder: Path) -> dict[str, bytes]:
    return {file.name: ssl.PEM_cert_to_DER_cert(file.read_text()) for file in folder.iterdir()}


def test_what_is_trusted_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "trusted"
    a, b, c = (_certificate(f"{letter}.example") for letter in "abc")
    TrustedFolder(path).begin([a, b])
    assert path.stat().st_mode & 0o777 == 0o700
    assert _held(path) == {f"{subject_hash(one)}.0": one for one in (a, b)}
    (path / f"{subject_hash(a)}.0").write_text("cut off")
    (path / "new").write_text("left behind by a crash")
    folder = TrustedFolder(path)
    folder.begin([a, c])
    assert _held(path) == {f"{subject_hash(one)}.0": one for one in (a, c)}
    folder.add(b)
    folder.add(b)
    folder.remove(a)
    folder.remove(a)
    assert _held(path) == {f"{subject_hash(one)}.0": one for one in (b, c)}


def test_subjects_with_one_hash_are_numbered_without_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "tallystick.node.transport.trusted.subject_hash"
    monkeypatch.setattr(module, lambda certificate: "0badcafe")
    a, b, c = (_certificate(f"{letter}.example") for letter in "abc")
    folder = TrustedFolder(tmp_path / "trusted")
    folder.begin([a, b, c])
    folder.remove(a)
    assert _held(folder.path) == {"0badcafe.0": b, "0badcafe.1": c}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "trusted").write_text("a file")
    with pytest.raises(StoreError, match="trusted cannot be written"):
        TrustedFolder(tmp_path / "trusted").begin([_certificate("a.example")])
