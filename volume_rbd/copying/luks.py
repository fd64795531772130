# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes: what opens them, their ciphers in the words of dm-crypt
and of qemu, and how their bytes are known."""

from __future__ import annotations

import dataclasses
import re

from volume_rbd import exception

#: What Cinder's documentation gives to volume types.
CIPHER = 'aes-xts-plain64'
KEY_SIZE = 256

#: Hashing a passphrase slowly makes guessing it dear, and each opening of the
#: volume as slow. Nobody guesses the random key of a key manager; what a
#: person can remember gets qemu's and cryptsetup's own 2 s.
RANDOM_KEY_MS = 100
PASSPHRASE_MS = 2000
_MEMORABLE_LENGTH = 32

#: Read so much of a volume to know whether it is encrypted, and how.
HEAD_BYTES = 108
_MAGIC = b'LUKS\xba\xbe'
_SECTOR_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Encryption:
    """How a volume is encrypted, and what opens it.

    Lives as long as the operation: the passphrase is a secret, and no repr,
    log, error or record has it.

    :param cipher: dm-crypt's; *key_size* in bits is that of the cipher's
        key, of which xts takes two.
    :param hashing_ms: what hashing the passphrase is to cost.
    """

    passphrase: str = dataclasses.field(repr=False)
    cipher: str = CIPHER
    key_size: int = KEY_SIZE
    hashing_ms: int = RANDOM_KEY_MS

    @property
    def key(self) -> bytes:
        return self.passphrase.encode()

    def check(self) -> None:
        """:raises InvalidInput: nothing can be encrypted so."""
        if not self.passphrase:
            raise exception.InvalidInput('The passphrase is empty.')
        parse_cipher(self.cipher, self.key_size)


def get_hashing_ms(passphrase: str) -> int:
    """What hashing a passphrase of unknown origin is to cost."""
    if len(passphrase) >= _MEMORABLE_LENGTH:
        return RANDOM_KEY_MS
    return PASSPHRASE_MS


def is_encrypted(head: bytes) -> bool:
    """Whether a disk that begins with *head* is a LUKS volume, 1 or 2."""
    return head.startswith(_MAGIC)


def find_header_bytes(head: bytes) -> int | None:
    """The length in bytes of the LUKS1 header at the beginning of *head*;
    None where there is none."""
    if not head.startswith(_MAGIC + b'\0\1') or len(head) < HEAD_BYTES:
        return None
    return int.from_bytes(head[104:108], 'big') * _SECTOR_BYTES


@dataclasses.dataclass(frozen=True)
class Cipher:
    """A LUKS1 cipher in qemu's words; see :func:`parse_cipher`."""

    algorithm: str
    mode: str
    iv_generator: str
    iv_hash: str | None = None

    def options(self) -> str:
        text = (f'cipher-alg={self.algorithm},cipher-mode={self.mode},'
                f'ivgen-alg={self.iv_generator}')
        if self.iv_hash:
            text += f',ivgen-hash-alg={self.iv_hash}'
        return text


_CIPHER = re.compile(
    r'(aes|serpent|twofish|cast5)-(xts|cbc|ecb|ctr)-'
    r'(plain|plain64|essiv)(?::(md5|sha1|sha256|sha512|ripemd160))?\Z')


def parse_cipher(text: str, key_size: int) -> Cipher:
    """Turn dm-crypt's ``aes-xts-plain64`` and Cinder's key size in bits into
    qemu's words, as Cinder does: the size is that of the cipher's key, and xts
    takes two of them.

    :raises InvalidInput:
    """
    match = _CIPHER.match(text)
    if match is None or key_size not in (128, 192, 256):
        raise exception.InvalidInput(
            f'The cipher {text!r} with a key of {key_size} bits is not '
            'known.', remedy='Use for instance aes-xts-plain64 and 256.')
    name, mode, iv_generator, iv_hash = match.groups()
    return Cipher(f'{name}-{key_size}', mode, iv_generator, iv_hash)
