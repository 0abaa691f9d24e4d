"""The file of endpoints: for its owner only, replaced whole, named when it is damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tallystick.node.errors import EndpointError, HomeError
from tallystick.node.feed.events import KINDS
from tallystick.node.webhooks.endpoints import (
    ENDPOINTS_MAX,
    FILE,
    HOSTED,
    Endpoint,
    add_endpoint,
    find_endpoint,
    load_endpoints,
    remove_endpoint,
    rotate_secret,
)
from tallystick.protocol.errors import InputError

URL = "https://billing.example/hook"


def _add(home: Path, *events: str) -> Endpoint:
    return add_endpoint(home, URL, list(events), "", 7, 1000)


def test_what_is_added_is_there_and_for_its_owner_only(tmp_path: Path) -> None:
    assert load_endpoints(tmp_path) == []
    made = _add(tmp_path, "dispute.*", "delta.verified")
    assert load_endpoints(tmp_path) == [made]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert made.secrets[0].text.startswith("whsec_")
    assert len(made.secrets[0].text) > 40
    assert made.kinds == {kind for kind in KINDS if kind.startswith("dispute.")} | {
        "delta.verified"
    }


def test_all_kinds_of_ours_but_none_of_the_hosted_service_unless_named(tmp_path: Path) -> None:
    assert _add(tmp_path).kinds == frozenset(KINDS)
    assert not frozenset(KINDS) & frozenset(HOSTED)
    assert not _add(tmp_path, "delta.*").kinds & frozenset(HOSTED)
    assert set(HOSTED) <= _add(tmp_path, *HOSTED).kinds
    with pytest.raises(InputError, match="no kind of event"):
        _add(tmp_path, "dispute.opend")
    assert len(load_endpoints(tmp_path)) == 3


def test_the_secret_before_counts_until_its_time_is_over(tmp_path: Path) -> None:
    made = _add(tmp_path)
    first = made.secrets[0].text
    second = rotate_secret(tmp_path, made.id[:8], 5000)
    new = second.secrets[0].text
    assert second.keys(4999) == [new, first]
    assert second.keys(5000) == [new]
    third = rotate_secret(tmp_path, made.id, 9000)
    assert third.keys(0) == [third.secrets[0].text, new]
    assert load_endpoints(tmp_path) == [third]


def test_one_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    one, two = _add(tmp_path), _add(tmp_path)
    assert find_endpoint([one, two], one.id[:12]) == one
    with pytest.raises(EndpointError, match="several"):
        find_endpoint([one, two], "whk_")
    for wrong in ("", "nothing"):
        with pytest.raises(EndpointError, match="no endpoint is called"):
            find_endpoint([one, two], wrong)
    assert remove_endpoint(tmp_path, one.id) == one
    assert load_endpoints(tmp_path) == [two]


def test_several_at_once_lose_none(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: _add(tmp_path), range(24)))
    assert {one.id for one in load_endpoints(tmp_path)} == {one.id for one in made}


def test_there_is_a_limit(tmp_path: Path) -> None:
    for _ in range(ENDPOINTS_MAX):
        _add(tmp_path)
    with pytest.raises(EndpointError, match="there are 64"):
        _add(tmp_path)


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"id": 1}]', "\xff", "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / FILE
    file.write_text(text, "latin-1")
    file.chmod(0o600)
    with pytest.raises(HomeError, match=r"webhooks\.json is damaged"):
        load_endpoints(tmp_path)
    with pytest.raises(HomeError):
        _add(tmp_path)
    assert file.read_text("latin-1") == text


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    _add(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(HomeError, match="mode 0644"):
        load_endpoints(tmp_path)
