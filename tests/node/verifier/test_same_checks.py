"""The page and `tally verify` find the same, check by check, whether a file holds or not."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import builders
import nonsense
import pytest
import reselling
import verifying
from builders import OCTOBER_US
from fuzzing import bundles, seeds
from fuzzing.mutation import mutations
from playwright.sync_api import Browser, Page
from verifying import Found, Given, by_browser, by_python, outcomes, proofs

from tallystick.protocol.archive import MemberName, write_archive
from tallystick.protocol.bundle import FULL, open_bundle

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
    assert [{"name": name, "ok": ok, "detail": said} for _, name, ok, said in found] == document[
        "checks"
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


@pytest.mark.parametrize("name", ["bundle-full.tally", "bundle-rotated.tally"])
def test_changed_bundles_fail_alike(page: Page, name: str) -> None:
    data = (VECTORS / name).read_bytes()
    assert packed(members_of(data)) == data
    compare(page, [Given(changed) for changed in changed_bundles(data, 60, 7)])


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
