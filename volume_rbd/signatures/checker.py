# SPDX-License-Identifier: Apache-2.0
"""The verification of one operation."""

from __future__ import annotations

import contextlib
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)

from volume_rbd.signatures.certificates import Certificates
from volume_rbd.signatures.signature import Signature
from volume_rbd.signatures.verdicts import Verdicts
from volume_rbd.signatures.verifier import Verifier


class Checker:
    """Verifies the image of one operation, whichever way its bytes come.

    :param trusted: ids of the certificates that may issue others.
    :ivar is_verified: some bytes of this operation were found good. Lives in
        the process only, so that no record can claim it.
    :ivar terms: what the verdict depends on beside the bytes, where they were
        found good on their way.
    :ivar snapshot: (pool, internal id of the rbd_image, id of the snapshot)
        of what was verified, where that was a snapshot.
    """

    def __init__(self, image_id: str, signature: Signature,
                 certificates: Certificates, trusted: Sequence[str] = (),
                 verdicts: Verdicts | None = None) -> None:
        self.is_verified = False
        self.terms: str | None = None
        self.snapshot: tuple[str, str, int] | None = None
        self._image_id = image_id
        self._signature = signature
        self._certificates = certificates
        self._trusted = trusted
        self._verdicts = verdicts or Verdicts()

    def open(self) -> Verifier:
        """A new verifier, with the certificate as it is now.

        :raises SignatureInvalid: the certificate is not to be had, or does
            not fit.
        """
        return Verifier(
            self._image_id, self._signature,
            self._certificates.get(self._signature.certificate_id),
            [self._certificates.get(each) for each in self._trusted])

    def pass_on(self, chunks: Iterable[bytes]
                ) -> Generator[bytes, None, None]:
        """*chunks*, verified as they pass.

        The certificate is fetched at once with the first ``next()``, before
        anything is read; the verdict comes after the last chunk was taken.

        :raises SignatureInvalid: instead of the end.
        """
        verifier = self.open()
        for chunk in chunks:
            verifier.update(chunk)
            yield chunk
        self._finish(verifier)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Verifier]:
        """A verifier that is fed all of the bytes within the block.

        :raises SignatureInvalid: at the end of the block.
        """
        verifier = self.open()
        yield verifier
        self._finish(verifier)

    def recall(self, terms: str | None) -> bool:
        """Whether bytes that were found good under *terms* still are: the
        certificate is fetched, and its dates looked at, every time.

        :raises SignatureInvalid: with that certificate nothing is.
        """
        if self.open().terms != terms:
            return False
        self.is_verified = True
        self.terms = terms
        return True

    def _finish(self, verifier: Verifier) -> None:
        verifier.finish()
        self.is_verified = True
        self.terms = verifier.terms

    def check(self, what: Hashable,
              read: Callable[[], Generator[bytes, None, None]]) -> bool:
        """Verify what *read* gives, unless *what* is known to be good.

        :param what: names bytes that never change, for all time.
        :returns: whether they had to be read.
        :raises SignatureInvalid:
        """
        verifier = self.open()

        def verify() -> None:
            with contextlib.closing(read()) as chunks:
                for chunk in chunks:
                    verifier.update(chunk)
            verifier.finish()

        was_read = self._verdicts.ensure((what, verifier.terms), verify)
        self.is_verified = True
        return was_read
