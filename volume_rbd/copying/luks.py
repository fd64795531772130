# SPDX-License-Identifier: Apache-2.0
"""The ciphers of encrypted volumes, in the words of dm-crypt and of qemu."""

from __future__ import annotations

import dataclasses
import re

from volume_rbd import exception


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
