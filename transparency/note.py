"""Signed notes and the two kinds of signature on them (c2sp.org/signed-note, tlog-cosignature).

    note = text LF *( signature-line )          text ends with LF; an empty line ends it
    signature-line = EM-DASH SP key-name SP base64(key-id || signature) LF
    key-id = SHA-256(key-name || LF || type || public-key)[:4]
    verifier key = key-name "+" hex(key-id) "+" base64(type || public-key)

Type 0x01 signs the text. Type 0x04, a witness's cosignature, signs the text behind a time stamp,
and its signature bytes are timestamp u64 || Ed25519 signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transparency import signing
from transparency.errors import BadCosignature, BadSignature, Malformed
from transparency.text import decode_base64, encode_base64

MAX_NOTE_LENGTH = 65536
"""Bounds the number of signatures; sixteen, which every verifier must take, need about 2 KiB."""

_KEY_ID_LENGTH = 4
_TIMESTAMP_LENGTH = 8
_LINE_START = "\N{EM DASH} "


class KeyType(IntEnum):
    """The signature type byte of a verifier key."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def check_name(name: str) -> None:
    """Refuse what a key may not be called.

    Raises:
        Malformed: empty, or containing white space, a plus sign or a control character.
    """
    if not name or "+" in name or any(c.isspace() or c < " " for c in name):
        raise Malformed("not a key name")


@dataclass(frozen=True)
class VerifierKey:
    """The public half of a note key: what a policy is made of."""

    name: str
    type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public_key) != signing.PUBLIC_KEY_LENGTH:
            raise Malformed("an Ed25519 public key has 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name this key on a signature line, together with its name."""
        material = b"%s\n%c%s" % (self.name.encode(), self.type, self.public_key)
        return hashlib.sha256(material).digest()[:_KEY_ID_LENGTH]

    def __str__(self) -> str:
        material = encode_base64(bytes([self.type]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Parse `name+hash+base64`.

        Raises:
            Malformed: not of this form, an unknown type, or a hash that is not the key's.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise Malformed("a verifier key is name+hash+base64")
        material = decode_base64(parts[2])
        if not material or material[0] not in tuple(KeyType):
            raise Malformed("a verifier key of an unknown type")
        key = cls(parts[0], KeyType(material[0]), material[1:])
        if key.key_id.hex() != parts[1]:
            raise Malformed("a verifier key's hash is not the key's")
        return key


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: who signed (name and key id) and the bytes, not yet verified."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> str:
        """Return the line with its newline."""
        return f"{_LINE_START}{self.name} {encode_base64(self.key_id + self.signature)}\n"

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Parse one line, without its newline.

        Raises:
            Malformed: not a signature line.
        """
        if not line.startswith(_LINE_START):
            raise Malformed("a signature line begins with an em dash")
        name, space, material = line.removeprefix(_LINE_START).partition(" ")
        check_name(name)
        data = decode_base64(material)
        if not space or len(data) <= _KEY_ID_LENGTH:
            raise Malformed("a signature line without a signature")
        return cls(name, data[:_KEY_ID_LENGTH], data[_KEY_ID_LENGTH:])

    def is_by(self, key: VerifierKey) -> bool:
        """Whether this line claims to be by `key`. Claims only: nothing is verified here."""
        return self.name == key.name and self.key_id == key.key_id


@dataclass(frozen=True)
class Note:
    """A text and the signature lines under it. The text is to be ignored until one is verified."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the note's one encoding."""
        return (self.text + "\n" + "".join(line.encode() for line in self.signatures)).encode()

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Parse a signed note.

        Raises:
            Malformed: not UTF-8, control characters, no signature line, too long.
        """
        text = _decode_text(data)
        end = text.rfind("\n\n")
        if end < 0 or not text.endswith("\n"):
            raise Malformed("a note is a text, an empty line and signature lines")
        lines = text[end + 2 : -1].split("\n")
        return cls(text[: end + 1], tuple(NoteSignature.parse(line) for line in lines))

    def by(self, key: VerifierKey) -> tuple[NoteSignature, ...]:
        """Return the lines that claim to be by `key`."""
        return tuple(line for line in self.signatures if line.is_by(key))


@dataclass(frozen=True)
class Signer:
    """A named private key of one type."""

    name: str
    type: KeyType
    private_key: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, name: str, kind: KeyType, seed: bytes) -> Signer:
        """Make a signer from a 32-byte seed."""
        return cls(name, kind, signing.private_key(seed))

    @property
    def verifier_key(self) -> VerifierKey:
        """The public half; `str()` of it is what stands in trust.toml."""
        return VerifierKey(self.name, self.type, signing.public_bytes(self.private_key))


def sign(text: str, signer: Signer) -> NoteSignature:
    """Sign a note's text with a key of type 0x01.

    Raises:
        ValueError: the signer's key is of another type, which signs another message.
    """
    if signer.type is not KeyType.ED25519:
        raise ValueError("not a key that signs notes")
    key_id = signer.verifier_key.key_id
    return NoteSignature(signer.name, key_id, signer.private_key.sign(text.encode()))


def cosign(text: str, signer: Signer, at: int) -> NoteSignature:
    """Cosign a checkpoint's text as of `at` (Unix seconds) with a key of type 0x04.

    Raises:
        ValueError: the signer's key is of another type, which signs another message.
    """
    if signer.type is not KeyType.COSIGNATURE:
        raise ValueError("not a key that cosigns checkpoints")
    signature = signer.private_key.sign(_cosigned_message(text, at))
    stamp = at.to_bytes(_TIMESTAMP_LENGTH, "big")
    return NoteSignature(signer.name, signer.verifier_key.key_id, stamp + signature)


def verify(text: str, line: NoteSignature, key: VerifierKey) -> None:
    """Check a signature line of type 0x01 over `text`.

    Raises:
        BadSignature: it is not by this key, the key is of another type, or it does not verify.
    """
    if key.type is not KeyType.ED25519 or not line.is_by(key):
        raise BadSignature("a note signature by another key")
    signing.verify(key.public_key, text.encode(), line.signature)


def verify_cosignature(text: str, line: NoteSignature, key: VerifierKey) -> int:
    """Check a cosignature line over `text` and return its time (Unix seconds).

    Raises:
        BadCosignature: it is not by this key, the key is of another type, or it does not verify.
    """
    if key.type is not KeyType.COSIGNATURE or not line.is_by(key):
        raise BadCosignature("a cosignature by another key")
    at = int.from_bytes(line.signature[:_TIMESTAMP_LENGTH], "big")
    try:
        signing.verify(
            key.public_key, _cosigned_message(text, at), line.signature[_TIMESTAMP_LENGTH:]
        )
    except BadSignature:
        raise BadCosignature("a witness's cosignature does not verify") from None
    if at >= 2**63:
        raise BadCosignature("a cosignature time beyond 2^63")
    return at


def _cosigned_message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _decode_text(data: bytes) -> str:
    if len(data) > MAX_NOTE_LENGTH:
        raise Malformed("a note of more than 64 KiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a note is UTF-8") from None
    if any(c < " " and c != "\n" for c in text):
        raise Malformed("a note with control characters")
    return text
