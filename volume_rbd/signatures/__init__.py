# SPDX-License-Identifier: Apache-2.0
"""Who vouches for an image: signatures, certificates, verdicts.

An image's owner may sign its bytes and name the certificate in four
properties (``img_signature*``). Glance checks them as bytes pass through it,
never on a location that was registered; so whoever makes something of an
image checks for itself, whichever way the bytes come.

:func:`find_signature` says what a :class:`Policy` asks for, with no I/O. A
:class:`Checker`, one for each operation, fetches the certificate and opens a
:class:`Verifier`, which is fed every byte of the image in order, holes as
zeros. What was verified once is remembered by :class:`Verdicts`.

The only importer of cursive. Knows nothing of Ceph and Glance.
"""

from volume_rbd.signatures.certificates import (
    Certificates,
    KeyManagerCertificates,
    NoCertificates,
)
from volume_rbd.signatures.checker import Checker
from volume_rbd.signatures.signature import Policy, Signature, find_signature
from volume_rbd.signatures.verdicts import Verdicts
from volume_rbd.signatures.verifier import Verifier

__all__ = ['Certificates', 'Checker', 'KeyManagerCertificates',
           'NoCertificates', 'Policy', 'Signature', 'Verdicts', 'Verifier',
           'find_signature']
