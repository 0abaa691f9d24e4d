"""The session is its table: two sessions joined in memory, and every step that the table lacks."""

from __future__ import annotations

import pytest

from tallystick.protocol.errors import PeerBreach
from tallystick.protocol.framing import frame
from tallystick.protocol.messages import (
    APPEND_RECORDS_MAX,
    PROTOCOL_VERSION,
    Accusation,
    Append,
    AskReconcile,
    Bye,
    Channels,
    ConsentReconcile,
    Cosign,
    Difference,
    Fenced,
    Founded,
    Full,
    Halt,
    Hearsay,
    Hello,
    Holding,
    Message,
    OpenRows,
    Ping,
    Presence,
    Promoted,
    ProposeCheckpoint,
    ProposeTerms,
    ReconcileDone,
    ReconcileStop,
    RefuseCheckpoint,
    Return,
    RevealNonce,
    SignCheckpoint,
    SketchCells,
    SliceSums,
    StatementPage,
    TermsHeld,
    TermsRefused,
    WantCells,
    WantPage,
    WantRows,
    encode_message,
    plain,
)
from tallystick.protocol.records import batch_bytes
from tallystick.protocol.session import APPENDS_IN_FLIGHT_MAX, Rewriting, Session
from tallystick.protocol.states import CHANNEL, CONNECTION, SENDABLE, Channel, Connection

ID = bytes(range(32))
HASH, SIGNATURE, COSIGNATURE = bytes(32), bytes(64), bytes(72)
RUN = bytes(16)  # a reconciliation session's id
BATCH = batch_bytes([b"\xc0", b"\xc0"])  # two records, which no session looks into

EXAMPLES: dict[type, Message] = {
    type(message): message
    for message in (
        Hello(PROTOCOL_VERSION, "beta.example", 0, ""),
        Presence(RUN, 0, False, None),
        Hearsay([], []),
        Accusation(b"evidence"),
        Promoted(1, SIGNATURE),
        Fenced(2, SIGNATURE),
        Holding(ID, 0, 0, 0, HASH, b"", b""),
        Append(ID, 0, BATCH, SIGNATURE),
        Cosign(ID, 2, COSIGNATURE),
        Return(ID, 0, BATCH, SIGNATURE, b""),
        ProposeTerms(b"x", SIGNATURE),
        Channels([ID]),
        TermsHeld(ID),
        TermsRefused(ID, "no"),
        Full(ID, "no"),
        Founded(b"x", SIGNATURE, SIGNATURE),
        ProposeCheckpoint(ID, "text", SIGNATURE, False, b"verdict"),
        SignCheckpoint(ID, HASH, SIGNATURE),
        RefuseCheckpoint(ID, HASH, "no"),
        StatementPage(ID, HASH, 0, [], True),
        WantPage(ID, HASH, 0),
        Difference(ID, HASH, b"", b""),
        Halt(ID, "no"),
        Bye("done", ""),
        Ping(),
        AskReconcile(ID, RUN, "2026-10", ("tokens",), "id", 1, 5, 5, HASH, HASH),
        ConsentReconcile(ID, RUN, 5, 5, HASH, HASH),
        RevealNonce(ID, RUN, HASH, bytes(16)),
        SliceSums(ID, RUN, bytes(16)),
        WantCells(ID, RUN, 0, 1),
        SketchCells(ID, RUN, 0, bytes(15)),
        WantRows(ID, RUN, b"", 0, True),
        OpenRows(ID, RUN, False, [], True),
        ReconcileDone(ID, RUN, HASH, HASH),
        ReconcileStop(ID, RUN, "silence", "no"),
    )
}
IN_CHANNEL = [kind for kind in EXAMPLES if hasattr(EXAMPLES[kind], "channel")]
IN_CHANNEL = [kind for kind in IN_CHANNEL if kind not in (TermsHeld, TermsRefused)]


def _live(own_size: int = 0) -> Session:
    """Acme's session after beta introduced itself, with one channel."""
    session = Session("acme.example", "beta.example")
    _hear(session, EXAMPLES[Hello])
    _hear(session, EXAMPLES[Presence])
    session.add_channel(ID, own_size, 0)
    return session


def _hear(session: Session, message: Message) -> Message | None:
    session.feed(frame(encode_message(message)))
    return session.next_message()


def test_two_sessions_say_hello_append_and_cosign() -> None:
    acme = Session("acme.example", "beta.example")
    beta = Session("beta.example", "acme.example")
    beta.feed(acme.send(Hello(PROTOCOL_VERSION, "acme.example", 5, "a:1")))
    acme.feed(beta.send(Hello(PROTOCOL_VERSION, "beta.example", 5, "b:1")))
    assert beta.next_message() == Hello(PROTOCOL_VERSION, "acme.example", 5, "a:1")
    assert acme.next_message() == Hello(PROTOCOL_VERSION, "beta.example", 5, "b:1")
    for one, other in ((acme, beta), (beta, acme)):
        other.feed(one.send(EXAMPLES[Presence]))
        assert other.next_message() == EXAMPLES[Presence]
    acme.add_channel(ID, 2, 0)
    beta.add_channel(ID, 0, 0)
    acme.feed(beta.send(Holding(ID, 0, 0, 0, HASH, b"", b"")))
    acme.next_message()
    assert acme.channels[ID].may_append
    beta.feed(acme.send(Append(ID, 0, BATCH, SIGNATURE)))
    beta.next_message()
    assert beta.channels[ID].received_size == 2
    acme.feed(beta.send(Cosign(ID, 2, COSIGNATURE)))
    acme.next_message()
    assert acme.channels[ID].cosigned_size == 2
    assert not acme.channels[ID].in_flight


def test_bytes_may_come_one_at_a_time() -> None:
    session = Session("acme.example", "beta.example")
    said = [EXAMPLES[Hello], EXAMPLES[Presence], Ping()]
    heard = []
    for byte in b"".join(frame(encode_message(m)) for m in said):
        session.feed(bytes([byte]))
        heard.append(session.next_message())
    assert [message for message in heard if message] == said


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("state", [Connection.GREETING, Connection.GREETED])
def test_what_the_connections_table_lacks_is_a_breach(state: Connection, kind: type) -> None:
    fresh = Session("acme.example", "beta.example")
    fresh.state = state
    if (state, kind) in CONNECTION:
        _hear(fresh, EXAMPLES[kind])
        assert fresh.state is CONNECTION[state, kind]
    else:
        with pytest.raises(PeerBreach) as raised:
            _hear(fresh, EXAMPLES[kind])
        assert raised.value.code == "out-of-order"


@pytest.mark.parametrize("kind", IN_CHANNEL)
@pytest.mark.parametrize("state", Channel)
def test_what_the_channels_table_lacks_is_a_breach(state: Channel, kind: type) -> None:
    session = _live()
    link = session.channels[ID]
    link.state = state
    link.in_flight.append(2)  # so that the example's co-signature is of something sent
    if (state, kind) in CHANNEL:
        _hear(session, EXAMPLES[kind])
        assert link.state is CHANNEL[state, kind]
    else:
        with pytest.raises(PeerBreach) as raised:
            _hear(session, EXAMPLES[kind])
        assert raised.value.code == "out-of-order"


def test_the_tables_leave_no_message_out() -> None:
    spoken = {kind for _, kind in CHANNEL} | {kind for _, kind in CONNECTION}
    assert spoken == set(EXAMPLES)
    assert set(SENDABLE) == set(Channel)


def test_nothing_of_ours_goes_out_before_the_peer_confirmed() -> None:
    session = _live(own_size=2)
    with pytest.raises(AssertionError):
        session.send(Append(ID, 0, BATCH, SIGNATURE))


def test_a_peer_that_holds_more_makes_us_recover() -> None:
    session = _live(own_size=0)
    _hear(session, Holding(ID, 0, 0, 4, HASH, SIGNATURE, b""))
    assert session.channels[ID].state is Channel.RECOVERING
    _hear(session, Return(ID, 0, BATCH, SIGNATURE, b""))
    with pytest.raises(PeerBreach):
        _hear(session, Return(ID, 0, BATCH, SIGNATURE, b""))
    session.recovered(ID)
    assert session.channels[ID].may_append
    assert session.channels[ID].sent_size == 2


def test_appends_in_flight_are_bounded() -> None:
    session = _live(own_size=100)
    _hear(session, Holding(ID, 0, 0, 0, HASH, b"", b""))
    for n in range(APPENDS_IN_FLIGHT_MAX):
        session.send(Append(ID, 2 * n, BATCH, SIGNATURE))
    assert not session.channels[ID].may_append
    _hear(session, Cosign(ID, 4, COSIGNATURE))
    assert len(session.channels[ID].in_flight) == APPENDS_IN_FLIGHT_MAX - 2


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Append(ID, 1, BATCH, SIGNATURE), "out-of-order"),
        (Cosign(ID, 2, COSIGNATURE), "out-of-order"),
        (Append(HASH, 0, BATCH, SIGNATURE), "wrong-channel"),
    ],
)
def test_sizes_and_channels_that_do_not_fit(message: Message, code: str) -> None:
    session = _live()
    _hear(session, EXAMPLES[Holding])
    with pytest.raises(PeerBreach) as raised:
        _hear(session, message)
    assert raised.value.code == code


def test_a_hello_of_another_party() -> None:
    with pytest.raises(PeerBreach) as raised:
        _hear(Session("acme.example", "beta.example"), Hello(PROTOCOL_VERSION, "x.example", 0, ""))
    assert raised.value.code == "wrong-party"


@pytest.mark.parametrize(("version", "older"), [(2, "beta.example"), (4, "acme.example")])
def test_a_hello_of_another_version_says_whose_node_is_to_be_updated(
    version: int, older: str
) -> None:
    with pytest.raises(PeerBreach) as raised:
        _hear(Session("acme.example", "beta.example"), Hello(version, "beta.example", 0, ""))
    assert raised.value.code == "version"
    assert raised.value.message == (
        f"acme.example speaks version 3 of the protocol, beta.example version {version}"
    )
    assert f"the node of {older}" in raised.value.advice


@pytest.mark.parametrize(
    "data",
    [
        bytes(4),
        b"\xff\xff\xff\xff",
        frame(b"\xc1"),
        frame(b"\x91\x63"),
        frame(b"\x92\x11\x00"),
        frame(b"\x91" * 100_000),
    ],
)
def test_malformed_bytes(data: bytes) -> None:
    session = _live()
    with pytest.raises(PeerBreach) as raised:
        session.feed(data)
        session.next_message()
    assert raised.value.code == "malformed"


def test_channels_are_listed_once() -> None:
    session = _live()
    _hear(session, Channels([ID]))
    with pytest.raises(PeerBreach) as raised:
        _hear(session, Channels([]))
    assert raised.value.code == "out-of-order"


@pytest.mark.parametrize("count", [APPEND_RECORDS_MAX, APPEND_RECORDS_MAX + 1])
def test_records_in_one_message_are_counted_before_they_are_read(count: int) -> None:
    session = _live()
    _hear(session, EXAMPLES[Holding])
    append = Append(ID, 0, b"\xdd" + count.to_bytes(4, "big") + b"\xc0", SIGNATURE)
    if count > APPEND_RECORDS_MAX:
        with pytest.raises(PeerBreach) as raised:
            _hear(session, append)
        assert raised.value.code == "malformed"
    else:
        assert _hear(session, append) == append


def test_a_peers_words_have_no_effect_on_a_terminal() -> None:
    assert plain("über\x1b[2J\n\u202ez") == "über [2J  z"


def test_records_in_the_place_of_others_are_handed_on_as_what_they_are() -> None:
    session = _live()
    session.channels[ID].received_size = 2
    append = Append(ID, 1, BATCH, SIGNATURE)
    with pytest.raises(Rewriting) as raised:
        _hear(session, append)
    assert raised.value.append == append
