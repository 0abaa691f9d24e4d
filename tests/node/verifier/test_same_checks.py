"""The page and `tally verify` find the same, check by check, whether a file holds or not."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import builders
import extra_vectors
import nonsense
import pytest
import reselling
import verifying
from authorities import Authority
from builders import OCTOBER_US
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from fuzzing import bundles, seeds
from fuzzing.mutation import mutations
from playwright.sync_api import Browser, Page
from stamping import LIES, SHA512, Maker, Stamp, der, integer
from verifying import Found, Given, by_browser, by_python, outcomes, proofs

from tallystick.protocol.archive import MemberName, write_archive
from tallystick.protocol.bundle import FULL, TIMESTAMP, open_bundle
from tallystick.protocol.notes import Signature
from tallystick.protocol.proof import format_proof, parse_proof

VECTORS = Path(__file__).parents[2] / "vectors"
FILES = sorted(
    path
    for path in VECTORS.iterdir()
    if path.suffix in (".tally", ".evidence", ".refutation", ".certificate")
)


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with verifying.verifier(chromium, tmp_path_factory.mktemp("verifier")) as page:
        yield page


def compare(page: Page, given: Sequence[Given]) -> list[Found]:
    """The page finds what Python finds; what holds is said in the same words."""
    found = by_browser(page, given)
    for one, theirs in zip(given, found, strict=True):
        ours = by_python(one)
        assert outcomes(theirs) == outcomes(ours), one.data.hex()
        assert [check for check in theirs if check[2]] == [check for check in ours if check[2]]
        assert all(check[3] for check in theirs)
        assert "this page could not" not in str(theirs), one.data.hex()
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_vector_holds_as_on_the_command_line(page: Page, path: Path) -> None:
    document = json.loads(verifying.tally("verify", str(path), "--json").stdout)
    [found] = by_browser(page, [Given(path.read_bytes())])
    assert document["ok"]
    assert [(name, ok, said) for _, name, ok, said in found] == [
        (check["name"], check["ok"], check["detail"]) for check in document["checks"]
    ]


@pytest.mark.parametrize("name", proofs())
def test_proofs_hold_by_the_keys_that_are_expected_and_by_no_others(page: Page, name: str) -> None:
    given = proofs()[name]
    whole, keyless, alone, swapped, strange = compare(
        page,
        [
            given,
            Given(given.data, given.beside),
            Given(given.data, None, given.keys),
            Given(given.data, given.beside, given.keys[::-1]),
            Given(given.data, given.beside, given.keys[:1]),
        ],
    )
    assert all(check[2] for check in whole)
    assert all(check[2] for check in swapped)
    said = {check[1]: check[3] for check in keyless if not check[2]}
    unsigned = ["keys", "signatures"] + ["behind"] * (name == "seal")
    assert list(said) == unsigned
    party = "broker" if name in ("seal", "passthrough") else "acme"
    assert said["keys"].startswith(f"no expected key is of {party}.example/")
    assert [check[1] for check in strange if not check[2]] == unsigned
    if given.beside is not None:
        missing = "is in another file" if name == "seal" else "is not there"
        assert missing in next(check[3] for check in alone if not check[2])


def test_resales_that_do_not_hold_fail_alike(page: Page) -> None:
    given = []
    for sale in reselling.wrong_proofs():
        keys = tuple(str(key) for key in sale.keys)
        given.append(Given(sale.proof, None, keys))
        given.append(Given(sale.seal, sale.proof, keys))
    found = compare(page, given)
    assert len(found) > 10
    for checks in found:
        assert not all(check[2] for check in checks)


@pytest.mark.parametrize("name", proofs())
def test_changed_proofs_fail_alike(page: Page, name: str) -> None:
    given = proofs()[name]
    chance = random.Random(1)
    changed = []
    for _ in range(40):
        data, beside = bytearray(given.data), bytearray(given.beside or b"")
        target = beside if beside and chance.random() < 0.3 else data
        target[chance.randrange(len(target))] ^= 1 << chance.randrange(8)
        changed.append(
            Given(bytes(data), bytes(beside) if given.beside is not None else None, given.keys)
        )
    for found in compare(page, changed):
        assert not all(check[2] for check in found)


def members_of(data: bytes) -> dict[str, bytes]:
    opened = open_bundle(io.BytesIO(data))
    members = dict(opened.members)
    for name, log in zip(FULL, opened.logs or (), strict=False):
        members[name] = b"".join(log.batches())
    return members


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    write_archive(out, [(MemberName(n, n in FULL), [data]) for n, data in members.items()])
    return out.getvalue()


def changed_bundles(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """A bundle with seeded changes: of its bytes, or of a member in an archive that fits again."""
    chance = random.Random(seed)
    members = members_of(data)
    for place in range(count):
        if place % 4 == 0:
            yield next(mutations([data], 1, chance.randrange(2**32)))
            continue
        name = chance.choice(sorted(members))
        whole = bytearray(members[name])
        if place % 4 == 1:
            whole[chance.randrange(len(whole))] = chance.randrange(256)
        else:
            whole = bytearray(next(mutations([bytes(whole)], 1, chance.randrange(2**32))))
        yield packed(members | {name: bytes(whole)})


@pytest.mark.parametrize(
    "name", ["bundle-full.tally", "bundle-rotated.tally", "bundle-extras.tally"]
)
def test_changed_bundles_fail_alike(page: Page, name: str) -> None:
    data = (VECTORS / name).read_bytes()
    assert packed(members_of(data)) == data
    compare(page, [Given(changed) for changed in changed_bundles(data, 60, 7)])


def test_timestamps_hold_and_fail_alike(page: Page, tmp_path: Path) -> None:
    channel = builders.busy_channel()
    closed = channel.closed[0]
    good, stamping = Stamp(closed.note), ExtendedKeyUsageOID.TIME_STAMPING
    maker = extra_vectors.MAKER
    finer = der(0x30, integer(2), der(0x80, b"\x05"), der(0x81, b"\x01"))
    honest = [
        maker.response(good),
        maker.response(replace(good, time="20261201000500.25Z", accuracy=None, nonce=2**63)),
        maker.response(replace(good, accuracy=finer), (maker.root_der, maker.der)),
        Maker(name="t\u00efme").response(good),
        *(
            Maker(curve=curve).response(replace(good, digest=SHA512))
            for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
        ),
        *(
            Authority(tmp_path / naming / key, naming=naming, key=key).stamp(closed.note)
            for naming, key in (("sha1", "rsa:2048"), ("sha256", "rsa:3072"), ("sha256", "ec"))
        ),
    ]
    lies = [maker.response(replace(good, **changes)) for changes, _ in LIES.values()]
    lies += [
        Maker(purposes=(stamping, ExtendedKeyUsageOID.SERVER_AUTH)).response(good),
        Maker(critical=False).response(good),
        Maker(purposes=()).response(good),
        maker.response(good, ()),
        maker.response(good, (maker.der, maker.der)),
        Authority(tmp_path / "weak", key="rsa:1024").stamp(closed.note),
        b"",
        b"\x30" * 70_000,
    ]
    chance = random.Random(3)
    for response in (honest[0], honest[-2]):
        for _ in range(60):
            changed = bytearray(response)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            lies.append(bytes(changed))
    members = members_of(extra_vectors.bundle(channel, replace(closed.contents, timestamp=b"x")))
    given = [Given(packed(members | {TIMESTAMP: response})) for response in honest + lies]
    found = compare(page, given)
    for one in found[: len(honest)]:
        assert one[-1][1:3] == ("time", True), one
    for one in found[len(honest) : len(honest) + len(LIES) + 8]:
        assert [check[1] for check in one if not check[2]] == ["time"], one


def test_lines_of_witnesses_are_said_alike(page: Page) -> None:
    channel = builders.busy_channel()
    contents = channel.closed[0].contents
    head = contents.provider_head
    given = []
    for names in (["a.example"], ["\U0001f600", "\uffee", "z", "B"], [f"w{n}" for n in range(98)]):
        lines = [Signature(name, bytes(4), bytes(72)) for name in names]
        made = replace(contents, provider_head=extra_vectors.with_lines(head, *lines))
        given.append(Given(extra_vectors.bundle(channel, made)))
    given.append(Given(extra_vectors.bundle(channel, replace(contents, consumer_head=head))))
    delta = proofs()["delta"]
    proof = parse_proof(delta.data)
    note = extra_vectors.with_lines(proof.note, Signature("w.example", bytes(4), bytes(72)))
    seen = format_proof(proof.index, proof.path, note)
    given += [replace(delta, data=seen), replace(delta, data=seen, keys=())]
    found = compare(page, given)
    for one in found[:3]:
        assert one[-1][1:3] == ("witnesses", True)
    assert found[4][-1] == (
        6,
        "witnesses",
        True,
        "lines in the name of w.example (1 on the head): not judged, as no policy was given",
    )


def test_json_that_parsers_read_differently_fails_alike(page: Page) -> None:
    members = members_of((VECTORS / "bundle-compact.tally").read_bytes())
    changes = [
        (b'"deltas": 1', b'"deltas": %s' % deltas)
        for deltas in (b"1.0", b"1e0", b"01", b"-0", b"true", b"9" * 30, b"%d" % 2**64, b"+1")
    ]
    changes += [
        (b"project-7", text)
        for text in (
            b"\\ud800",
            b"\\ud83d\\ude00",
            b"\xed\xa0\x80",
            b"\\u0000",
            b"\x00",
            b"\\/",
            b"\t",
        )
    ]
    changes += [
        (b'"period"', b'"period": "x", "period"'),
        (b'"channel"', b'"Channel"'),
        (b"{", b"\xef\xbb\xbf{"),
        (b"}\n", b"} \n"),
        (b"}\n", b"}\n,"),
        (b"[", b"[" * 3000),
        (b": ", b":"),
        (b"null", b"nul"),
    ]
    given = []
    for name in ("statement.json", "verdict.json"):
        for old, new in changes:
            changed = members[name].replace(old, new, 1)
            given.append(Given(packed(members | {name: changed})))
    compare(page, given)


def test_bundles_that_are_wrong_but_signed_fail_alike(page: Page) -> None:
    """Both parties could sign nonsense together: no signature then hides what is wrong."""
    made = [bundles.signed_bundle(data) for data in mutations(seeds.of("signed-bundles"), 40, 11)]
    compare(page, [Given(data) for data in made if data])


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix != ".tally"], ids=lambda p: p.name)
def test_changed_texts_fail_alike(page: Page, path: Path) -> None:
    data = path.read_bytes()
    compare(page, [Given(changed) for changed in mutations([data], 25, 3)])


def test_quarrels_come_to_the_same_lines(page: Page) -> None:
    """If a line came out otherwise here than there, its derivation would not hold."""
    channels = [nonsense.quarrel(seed) for seed in range(25)]
    made = [Given(channel.bundle(channel.closed[-1], full=True)) for channel in channels]
    found = compare(page, made)
    assert all(check[2] for checks in found for check in checks)
    assert len({checks[5][3] for checks in found}) > 15, "they are too much alike"


def test_records_that_nobody_would_take_fail_alike_though_both_signed(page: Page) -> None:
    made = filter(None, map(nonsense.nonsense, range(60)))
    found = compare(page, [Given(data) for data in made])
    failed = {check[1] for checks in found for check in checks if not check[2]}
    assert {"validity", "derivation", "checkpoint"} <= failed


def test_more_records_than_a_batch(page: Page) -> None:
    channel = builders.Channel([builders.meter("tokens")])
    for log in channel.logs:
        for number in range(9000):
            log.delta(hashlib.sha256(b"%d" % number).hexdigest(), "tokens", number, OCTOBER_US)
    data = channel.bundle(channel.close(), full=True)
    [found] = compare(page, [Given(data)])
    assert all(check[2] for check in found)
    assert found[7][3] == "9001 and 9001 records give both heads' roots"


def test_what_is_no_file_of_ours_fails_alike(page: Page) -> None:
    begun = [
        b"tallystick evidence ", b"tallystick refutation v1\n", b"tallystick certificate v2\n",
        b"c2sp.org/tlog-proof@v1\n", b"tallystick line-proof v1\n\n", b"",
        b"tallystick checkpoint v1\n", b"tallystick checkpoint v1\n\n",
        b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\xef\xbb\xbf",
    ]  # fmt: skip
    compare(page, [Given(data) for data in begun])
    compare(page, [Given(data + b"\xff\x00\n" * 50) for data in begun])
