"""Blinding: how a head travels among strangers who must not learn whose it is.

The two parties of a channel share a secret (X25519 of the keys that pairing exchanged). From it
and the publisher's key follows a *veil* for each publisher, log and epoch (a week):

- a pseudonym, the publisher's key times a factor that only the two can compute. Both know every
  pseudonym of their channel without a word, even after they lost everything else, and only the
  publisher can sign for its own: its peer cannot speak over it. Nobody else can tell which key
  is behind it;
- a scale, so that ranks grow when the log does, from a secret start in steps of secret lengths;
- a commitment to size and root, equal for equal heads and telling nothing of either;
- a key that seals the head with its signatures.

Presence of a party is a log of its own under a secret that it shares with nobody: its clock is the
size, and which process of it runs stands where a root would be.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

from tallystick.protocol.errors import FormatError, InputError, ProofError
from tallystick.protocol.items import RANK_MAX, SEALED_SIZE, Item, signed_bytes
from tallystick.protocol.keys import SEED_SIZE

EPOCH_SECONDS = 7 * 86_400
SHIFT_SECONDS = 86_400  # by up to this much earlier than others a secret's epochs begin
SIZE_MAX = 2**42 - 1  # ranks have room for no more
INCARNATION_SIZE = 16

_SIZE_BITS = SIZE_MAX.bit_length()
_LEVELS = 3  # that one hash has places for: seven numbers of four bytes
_ROOM_BITS = range(48, 62)  # how wide all sizes together lie apart
_NONCE_SIZE = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_NO_SIGNATURE = bytes(64)
_NO_COSIGNATURE = bytes(72)

About = Literal["provider", "consumer", "presence"]


def channel_secret(own: SigningKey, peer_key: bytes, channel_id: bytes) -> bytes:
    """What both parties of a channel know and nobody else: from our private key and the peer's
    public one, or from its private key and ours. `InputError` if the peer's key is no key.
    """
    try:
        theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(peer_key)
        ours = bindings.crypto_sign_ed25519_sk_to_curve25519(_pair(own))
        shared = bindings.crypto_scalarmult(ours, theirs)
    except (CryptoError, ValueError, TypeError):
        raise InputError(f"{peer_key.hex()} is no key that a secret can be shared with") from None
    both = sorted((bytes(own.verify_key), peer_key))
    extracted = hmac.digest(channel_id, shared, "sha256")
    return _expand(extracted, b"channel", *both)


def presence_secret(seed: bytes) -> bytes:
    """What every copy of one party knows and nobody else."""
    if len(seed) != SEED_SIZE:
        raise FormatError(f"a seed is {SEED_SIZE} bytes, not {len(seed)}")
    return _expand(seed, b"presence")


def epoch_at(secret: bytes, now_s: float) -> int:
    """The epoch at a time (POSIX seconds). Each secret changes at a moment of its own, so that
    the pseudonyms of many channels do not all change at once.
    """
    shift = int.from_bytes(_expand(secret, b"shift")[:8], "big") % SHIFT_SECONDS
    return (int(now_s) + shift) // EPOCH_SECONDS


def epochs_near(secret: bytes, now_s: float) -> range:
    """The epochs whose items are to be expected: the one before too, for what its publisher said
    last, and the next one if it begins within a day, for clocks that go wrong.
    """
    epoch = epoch_at(secret, now_s)
    return range(epoch - 1, epoch_at(secret, now_s + SHIFT_SECONDS) + 1)


@dataclass(frozen=True, slots=True)
class OpenedHead:
    """The head in an item. `cosignature` is empty if the publisher had none; both signatures are
    as unverified as the head: the veil shows only that one of the two parties sealed it.
    """

    size: int
    root: bytes
    signature: bytes
    cosignature: bytes


@dataclass(frozen=True, slots=True)
class OpenedPresence:
    """Which process of a party ran, at what time of its clock, and as which generation."""

    at_ms: int
    incarnation: bytes
    generation: int


class Veil:
    """What hides one publisher's items about one log in one epoch."""

    __slots__ = ("_factor", "_key", "_offset", "_room", "epoch", "pseudonym", "publisher")

    def __init__(self, secret: bytes, publisher: bytes, about: About, epoch: int) -> None:
        """`publisher` is the public key of the party that publishes, `about` says whose log."""
        self.publisher = publisher
        self.epoch = epoch
        self._key = _expand(secret, b"veil", publisher, about.encode(), epoch.to_bytes(8, "big"))
        wide = _expand(self._key, b"factor") + _expand(self._key, b"factor, more")
        self._factor = bindings.crypto_core_ed25519_scalar_reduce(wide)
        try:
            self.pseudonym = bindings.crypto_scalarmult_ed25519_noclamp(self._factor, publisher)
        except (CryptoError, ValueError, TypeError):
            raise InputError(f"{publisher.hex()} is no key that can be blinded") from None
        scale = _expand(self._key, b"scale")
        self._room = 1 << _ROOM_BITS[scale[0] % len(_ROOM_BITS)]
        self._offset = int.from_bytes(scale[1:9], "big") >> 2

    def rank(self, size: int) -> int:
        """Where a size stands: larger for a larger one, and the same for the same one.

        The room is parted in two at a secret place, a quarter at least on each side, for the lower
        and the upper half of all sizes, and so on down to one size. So steps differ at every
        scale, and what a log grew by is seen as more or less, not as a number.
        """
        if not 0 <= size <= SIZE_MAX:
            raise FormatError(f"{size} is more than gossip can rank")
        low, room, sizes = self._offset, self._room, SIZE_MAX + 1
        for above in range(_SIZE_BITS, 0, -_LEVELS):
            prefix = (size >> above).to_bytes(8, "big")
            places = _expand(self._key, b"slope", bytes([above]), prefix)
            node = 0
            for level in range(above - 1, above - 1 - _LEVELS, -1):
                place = int.from_bytes(places[4 * node : 4 * node + 4], "big")
                sizes //= 2
                left = sizes + ((room - 2 * sizes) * (2**31 + place) >> 33)
                upper = size >> level & 1
                low, room = (low + left, room - left) if upper else (low, left)
                node = 2 * node + 1 + upper
        return low

    def commitment(self, size: int, root: bytes) -> bytes:
        """The same for the same head, and random to whoever does not know the veil."""
        return _expand(self._key, b"commitment", size.to_bytes(8, "big"), root)

    def make(
        self, signer: SigningKey, size: int, root: bytes, signature: bytes, cosignature: bytes = b""
    ) -> Item:
        """The item of a head; the signer is the publisher's key pair before blinding."""
        if bytes(signer.verify_key) != self.publisher:
            raise InputError("only its publisher can sign for a pseudonym")
        rank, commitment = self.rank(size), self.commitment(size, root)
        sealed = self._seal(
            b"".join((size.to_bytes(8, "big"), root, signature, cosignature or _NO_COSIGNATURE))
        )
        if len(sealed) != SEALED_SIZE:
            raise FormatError("not a head: a root, a signature or a co-signature has another size")
        message = signed_bytes(self.epoch, self.pseudonym, rank, commitment, sealed)
        return Item(
            self.epoch, self.pseudonym, rank, commitment, sealed, self._sign(signer, message)
        )

    def make_presence(
        self, signer: SigningKey, at_ms: int, incarnation: bytes, generation: int
    ) -> Item:
        """The item that says that this process of a party is there."""
        if len(incarnation) != INCARNATION_SIZE:
            raise FormatError(f"an incarnation has {INCARNATION_SIZE} bytes")
        root = incarnation + generation.to_bytes(16, "big")
        return self.make(signer, at_ms, root, _NO_SIGNATURE)

    def open(self, item: Item) -> OpenedHead:
        """The head in an item whose signature was verified; `ProofError` if it is not under this
        veil, or says another head than it is ranked and committed to as.
        """
        if item.pseudonym != self.pseudonym or item.epoch != self.epoch:
            raise ProofError("the item is not under this veil")
        nonce, box = item.sealed[:_NONCE_SIZE], item.sealed[_NONCE_SIZE:]
        try:
            head = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                box, self.pseudonym, nonce, _expand(self._key, b"seal")
            )
        except CryptoError:
            raise ProofError("the item was not sealed under this veil") from None
        size, root = int.from_bytes(head[:8], "big"), head[8:40]
        if size > SIZE_MAX or item.rank != self.rank(size):
            raise ProofError(f"the item of a head of {size} records has another rank")
        if item.commitment != self.commitment(size, root):
            raise ProofError(f"the item of a head of {size} records is committed to another one")
        signature, cosignature = head[40:104], head[104:]
        return OpenedHead(
            size, root, signature, b"" if cosignature == _NO_COSIGNATURE else cosignature
        )

    def open_presence(self, item: Item) -> OpenedPresence:
        """What a presence item of our own party says; `ProofError` as `open`."""
        opened = self.open(item)
        root = opened.root
        return OpenedPresence(
            opened.size, root[:INCARNATION_SIZE], int.from_bytes(root[INCARNATION_SIZE:], "big")
        )

    def _seal(self, head: bytes) -> bytes:
        """The nonce follows from what is sealed, so that nothing random is needed here."""
        nonce = _expand(self._key, b"nonce", head)[:_NONCE_SIZE]
        return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            head, self.pseudonym, nonce, _expand(self._key, b"seal")
        )

    def _sign(self, signer: SigningKey, message: bytes) -> bytes:
        """An Ed25519 signature by the private key that belongs to the pseudonym."""
        scalar = bindings.crypto_sign_ed25519_sk_to_curve25519(_pair(signer))
        private = bindings.crypto_core_ed25519_scalar_mul(self._factor, scalar)
        prefix = hashlib.sha512(b"tallystick/v1 gossip nonce" + private + self._key).digest()
        once = _scalar(prefix, message)
        point = bindings.crypto_scalarmult_ed25519_base_noclamp(once)
        challenge = _scalar(point, self.pseudonym, message)
        proof = bindings.crypto_core_ed25519_scalar_add(
            once, bindings.crypto_core_ed25519_scalar_mul(challenge, private)
        )
        return point + proof


def _pair(key: SigningKey) -> bytes:
    """The key pair as libsodium takes it: the private half, then the public one."""
    return bytes(key) + bytes(key.verify_key)


def _scalar(*parts: bytes) -> bytes:
    return bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"".join(parts)).digest())


def _expand(key: bytes, label: bytes, *parts: bytes) -> bytes:
    """HKDF-Expand (RFC 5869) to 32 bytes; the parts have sizes that the label fixes."""
    info = b"tallystick/v1 gossip " + label + b"\n" + b"".join(parts)
    return hmac.digest(key, info + b"\x01", "sha256")


assert _SIZE_BITS % _LEVELS == 0
assert 2**62 + (1 << _ROOM_BITS[-1]) <= RANK_MAX
