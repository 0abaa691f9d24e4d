"""Pairing over real sockets and TLS: either both sides hold the other, or neither does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from builders import identity

from tallystick.node.errors import PairingError, PeerUnreachable
from tallystick.node.pairing import join, new_invite, own_identity, serve_join
from tallystick.node.transport import tls
from tallystick.protocol.errors import InputError
from tallystick.protocol.framing import frame
from tallystick.protocol.keys import Identity
from tallystick.protocol.pairing import (
    Challenge,
    Invite,
    PeerIdentity,
    StoredInvite,
    build_join,
    comparison_words,
    decode_pairing,
    encode_pairing,
    parse_invite,
)

ACME, BETA, GAMMA = identity("acme.example"), identity("beta.example"), identity("gamma.example")
BETA_ADDRESS = "beta.example:7450"
DAY_SECONDS = 86_400
SECRET = b"0123456789abcdef"
SECONDS = 5


def certificate(party: Identity) -> bytes:
    return tls.certificate_der(party.name, party.transport)


class Book:
    """Invites and peers in memory; storing takes a moment, as on a disk."""

    def __init__(self) -> None:
        self.invites: dict[bytes, StoredInvite] = {}
        self.peers: dict[str, PeerIdentity] = {}

    async def find_invite(self, id: bytes) -> StoredInvite | None:
        await trio.lowlevel.checkpoint()
        return self.invites.get(id)

    async def redeem(self, invite: StoredInvite, peer: PeerIdentity) -> None:
        await trio.sleep(0.01)
        self.invites[invite.id] = msgspec.structs.replace(invite, used_by=peer.transport_key)
        self.peers[peer.name] = peer

    def knows_other(self, peer: PeerIdentity, replacing: str = "") -> bool:
        known = self.peers.get(peer.name)
        if known is None or known.name == replacing:
            return False
        return known.transport_key != peer.transport_key


class Inviter:
    """acme.example, listening for joiners."""

    def __init__(self, home: Path) -> None:
        self.book = Book()
        self.now_s = 1_800_000_000.0
        self.address = ""
        self.told: list[PeerIdentity | None] = []  # what serve_join returned
        self._context = tls.server_context(ACME, certificate(ACME), [], home)

    def invite(self, secret: bytes = SECRET) -> Invite:
        invite, stored = new_invite(ACME, self.address, DAY_SECONDS, self.now_s, secret)
        self.book.invites[stored.id] = stored
        return invite

    async def serve(self, raw: trio.SocketStream) -> None:
        stream, _, _ = await tls.accept(raw, self._context, SECONDS)
        try:
            self.told.append(
                await serve_join(
                    stream, ACME, certificate(ACME), self.address, self.book, lambda: self.now_s
                )
            )
        finally:
            await stream.aclose()

    async def served(self, count: int) -> None:
        """Wait until so many joiners were served."""
        with trio.fail_after(SECONDS):
            while len(self.told) < count:
                await trio.sleep(0.01)


@asynccontextmanager
async def inviting(home: Path) -> AsyncIterator[Inviter]:
    inviter = Inviter(home)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        inviter.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, inviter.serve, [listener])
        yield inviter
        nursery.cancel_scope.cancel()


async def joined(code: str, who: Identity = BETA) -> PeerIdentity:
    return await join(code, who, certificate(who), BETA_ADDRESS)


async def half_a_join(inviter: Inviter, body: Callable[[Challenge], bytes]) -> tls.PeerStream:
    """A client that dials and sends these bytes for the challenge."""
    stream = await tls.dial(inviter.address, tls.pairing_context(), ACME.transport_key, SECONDS)
    challenge = decode_pairing((await stream.receive())[4:])
    assert isinstance(challenge, Challenge)
    await stream.send(body(challenge))
    return stream


async def test_both_sides_hold_the_other_and_show_the_same_words(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        peer = await joined(inviter.invite().encode())
        await inviter.served(1)
        beta = own_identity(BETA, certificate(BETA), BETA_ADDRESS)
        assert peer == own_identity(ACME, certificate(ACME), inviter.address)
        assert inviter.told == [beta]
        assert inviter.book.peers == {BETA.name: beta}
        assert comparison_words(BETA, peer) == comparison_words(ACME, beta)


async def test_after_pairing_a_session_is_mutually_pinned(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        peer = await joined(inviter.invite().encode())
        paired = [known.transport_certificate for known in inviter.book.peers.values()]
    context = tls.server_context(ACME, certificate(ACME), paired, tmp_path)
    keys: list[bytes | None] = []

    async def serve(raw: trio.SocketStream) -> None:
        stream, key, _ = await tls.accept(raw, context, SECONDS)
        keys.append(key)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        own = tls.session_context(BETA, certificate(BETA), peer.transport_certificate, tmp_path)
        port = listener.socket.getsockname()[1]
        stream = await tls.dial(f"127.0.0.1:{port}", own, peer.transport_key, SECONDS)
        await stream.receive()
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert keys == [BETA.transport_key]


async def test_a_wrong_secret_stores_nothing(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        invite = inviter.invite()
        guess = msgspec.structs.replace(invite, secret=b"another secret..")
        with pytest.raises(PairingError, match="not one of this node's") as caught:
            await joined(guess.encode())
        assert "new code" in caught.value.advice
        await inviter.served(1)
        assert inviter.book.peers == {} and inviter.told == [None]
        assert (await joined(invite.encode())).name == ACME.name  # the invite still works


async def test_a_right_id_with_a_wrong_secret_stores_nothing(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        invite = inviter.invite()

        def forged(challenge: Challenge) -> bytes:
            own = own_identity(BETA, certificate(BETA), BETA_ADDRESS)
            wrong = msgspec.structs.replace(invite, secret=b"another secret..")
            message = build_join(BETA, own, wrong, challenge)
            known = build_join(BETA, own, invite, challenge).invite_id
            return frame(encode_pairing(msgspec.structs.replace(message, invite_id=known)))

        stream = await half_a_join(inviter, forged)
        assert b"wrong-secret" in await stream.receive()
        await stream.aclose()
        await inviter.served(1)
        assert inviter.book.peers == {}


async def test_a_code_works_once(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        code = inviter.invite().encode()
        await joined(code)
        with pytest.raises(PairingError, match="used already"):
            await joined(code, GAMMA)
        assert set(inviter.book.peers) == {BETA.name}


async def test_of_two_joiners_at_the_same_moment_one_is_paired(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        code = inviter.invite().encode()
        refusals = []

        async def attempt(who: Identity) -> None:
            try:
                await joined(code, who)
            except PairingError as error:
                refusals.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, BETA)
            nursery.start_soon(attempt, GAMMA)
        assert len(inviter.book.peers) == 1
        assert len(refusals) == 1 and "used already" in refusals[0]


async def test_an_expired_code_says_when(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        code = inviter.invite().encode()
        inviter.now_s += DAY_SECONDS + 1
        with pytest.raises(PairingError, match="expired at 2027-01-16 08:00 UTC") as caught:
            await joined(code)
        assert "new code" in caught.value.advice
        assert inviter.book.peers == {}


async def test_after_a_lost_welcome_the_same_joiner_is_welcomed_again(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        invite = inviter.invite()
        own = own_identity(BETA, certificate(BETA), BETA_ADDRESS)
        stream = await half_a_join(
            inviter, lambda said: frame(encode_pairing(build_join(BETA, own, invite, said)))
        )
        await trio.aclose_forcefully(stream._stream.transport_stream)  # the line goes dead
        await inviter.served(1)
        assert inviter.told == [own]  # stored, so the inviter's node must know of it
        inviter.now_s += DAY_SECONDS + 1  # and the expiry no longer matters
        assert (await joined(invite.encode())).name == ACME.name
        with pytest.raises(PairingError, match="used already"):
            await joined(invite.encode(), GAMMA)


async def test_a_name_cannot_be_taken_over(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        await joined(inviter.invite().encode())
        impostor = Identity.from_seed(BETA.name, b"i" * 32)
        with pytest.raises(PairingError, match=r"paired as beta\.example") as caught:
            await joined(inviter.invite(b"a second secret!").encode(), impostor)
        assert "new code" not in caught.value.advice
        assert inviter.book.peers[BETA.name].transport_key == BETA.transport_key


async def test_a_name_gets_new_keys_by_a_code_that_says_so(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        await joined(inviter.invite().encode())
        invite, stored = new_invite(
            ACME, inviter.address, DAY_SECONDS, inviter.now_s, b"a second secret!", BETA.name
        )
        inviter.book.invites[stored.id] = stored
        with pytest.raises(PairingError, match=r"the code is for beta\.example"):
            await joined(invite.encode(), GAMMA)
        fresh = Identity.from_seed(BETA.name, b"f" * 32)
        await joined(invite.encode(), fresh)
        assert inviter.book.peers[BETA.name].transport_key == fresh.transport_key
        with pytest.raises(PairingError, match="used already"):
            await joined(invite.encode(), BETA)  # whoever has the old keys is late


async def test_a_node_does_not_pair_with_itself(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        with pytest.raises(InputError, match="this node's own"):
            await joined(inviter.invite().encode(), ACME)
        namesake = Identity.from_seed(ACME.name, b"n" * 32)
        own = own_identity(namesake, certificate(namesake), BETA_ADDRESS)
        invite = inviter.invite()
        stream = await half_a_join(
            inviter, lambda said: frame(encode_pairing(build_join(namesake, own, invite, said)))
        )
        assert b"self" in await stream.receive()
        await stream.aclose()
        assert inviter.book.peers == {}


async def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        with pytest.raises(PairingError, match="certificate is of another key"):
            await join(inviter.invite().encode(), BETA, certificate(GAMMA), BETA_ADDRESS)
        assert inviter.book.peers == {}


async def test_another_node_at_the_address_is_noticed(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        invite, _ = new_invite(GAMMA, inviter.address, DAY_SECONDS, 0.0, SECRET)
        with pytest.raises(PeerUnreachable, match="its key is another"):
            await joined(invite.encode())


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        code = inviter.invite().encode()
        address = inviter.address
    with pytest.raises(PeerUnreachable, match=f"{address} cannot be reached: connection refused"):
        await joined(code)


async def test_a_mistyped_code_dials_nobody() -> None:
    with pytest.raises(InputError, match="not a pairing code"):
        await joined("acme.example")


@pytest.mark.parametrize(
    "sent",
    [
        frame(b"\xc1 garbage"),
        frame(encode_pairing(Challenge(b"c" * 32))),
        (2**31).to_bytes(4, "big"),
        bytes(4),
        frame(b"x" * 60_000),
    ],
    ids=["garbage", "other-message", "oversized", "empty", "long"],
)
async def test_garbage_is_answered_and_stores_nothing(tmp_path: Path, sent: bytes) -> None:
    async with inviting(tmp_path) as inviter:
        inviter.invite()
        stream = await half_a_join(inviter, lambda _: sent)
        assert b"malformed" in await stream.receive()
        await stream.aclose()
        await inviter.served(1)
        assert inviter.told == [None] and inviter.book.peers == {}


async def test_a_client_that_leaves_or_says_half_a_frame_stores_nothing(tmp_path: Path) -> None:
    async with inviting(tmp_path) as inviter:
        for sent in (b"", frame(b"x" * 500)[:100]):
            stream = await half_a_join(inviter, lambda _, sent=sent: sent)  # type: ignore[misc]
            await stream.aclose()
        await inviter.served(2)
        assert inviter.told == [None, None] and inviter.book.peers == {}


async def test_a_silent_client_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.node.pairing.EXCHANGE_SECONDS", 0.1)
    async with inviting(tmp_path) as inviter:
        stream = await half_a_join(inviter, lambda _: b"\0")
        await inviter.served(1)
        await stream.aclose()
        assert inviter.told == [None]


async def test_an_inviter_that_talks_nonsense_or_leaves_stores_nothing_here(
    tmp_path: Path,
) -> None:
    context = tls.server_context(ACME, certificate(ACME), [], tmp_path)
    challenge = frame(encode_pairing(Challenge(b"c" * 32)))
    for says in ([b"\0\0\0\0"], [frame(b"\xc1")], [challenge], [challenge, challenge]):

        async def serve(raw: trio.SocketStream, says: list[bytes] = says) -> None:
            stream, _, _ = await tls.accept(raw, context, SECONDS)
            for data in says:
                await stream.send(data)
            if len(says) == 2 or says == [challenge]:
                await stream.receive()
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
            invite, _ = new_invite(ACME, address, DAY_SECONDS, 0.0, SECRET)
            with pytest.raises(PairingError, match="did not come about") as caught:
                await joined(invite.encode())
            assert "run the same tally join again" in caught.value.advice
            nursery.cancel_scope.cancel()


def test_a_new_invite_keeps_no_secret() -> None:
    invite, stored = new_invite(ACME, "acme.example:1", 60, 1000.9, SECRET)
    assert parse_invite(invite.encode()).secret == SECRET
    assert invite.expires_at_s == stored.expires_at_s == 1060
    assert SECRET not in msgspec.msgpack.encode(stored)
