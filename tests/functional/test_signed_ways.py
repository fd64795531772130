# SPDX-License-Identifier: Apache-2.0
"""Each way in which an image becomes a volume or a disk refuses each image
that nobody vouches for, and leaves nothing. (Into a file: test_fetch.py.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional import content, formats
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.test_fetch import forget_hash, tamper
from tests.functional.test_signatures import ELLIPTIC, RSA
from tests.signing import make_signer
from volume_rbd import compute, exception, model
from volume_rbd.copying import luks
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.base import Result

DATA = content.sparse_bytes(8 * MIB)
EXPIRED = make_signer(days=(-3, -1))
KEY = luks.Encryption('0123456789abcdef' * 2)


@dataclasses.dataclass(frozen=True)
class Way:
    """:param strategy: that is taken, where the image is good.
    :param options: of the backend.
    :param copied_to: the store that Glance has it copied to before, for good.
    """

    strategy: str
    store: str = 'rbd'
    disk_format: str = 'raw'
    options: dict[str, object] = dataclasses.field(default_factory=dict)
    is_encrypted: bool = False
    replaces: bool = False
    is_disk: bool = False
    copied_to: str | None = None


WAYS = {
    'clone': Way('clone'),
    'disk by clone': Way('clone', is_disk=True),
    'disk by clone of a copy': Way('clone', 'file', is_disk=True,
                                   copied_to='rbd'),
    'copy': Way('copy', options={'rbd_max_clone_depth': 0}),
    'download': Way('download', 'file'),
    'disk by download': Way('download', 'file', is_disk=True),
    'convert': Way('convert', disk_format='qcow2'),
    'convert, staged': Way('convert', 'file', 'qcow2'),
    'convert, base cache': Way('convert', disk_format='qcow2',
                               options={'image_base_cache': True}),
    'encrypt': Way('convert', is_encrypted=True),
    'encrypt, staged': Way('convert', 'file', is_encrypted=True),
    'replace by copy': Way('copy', replaces=True),
    'replace by download': Way('download', 'file', replaces=True),
    'replace by conversion': Way('convert', disk_format='qcow2',
                                 replaces=True),
}
every_way = pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)


class Counter:
    """Where somebody asks for volumes of signed images."""

    def __init__(self, house: House, way: Way, folder: Path) -> None:
        self.house = house
        self.way = way
        self.keys = folder / 'keys'
        self.keys.mkdir()
        for signer in (RSA, ELLIPTIC, EXPIRED):
            signer.keep(self.keys)
        self.file = (formats.make(folder, DATA, way.disk_format)
                     if way.disk_format != 'raw' else DATA)

    def make_image(self, signer: Any = RSA, signed: bytes | None = None,
                   **change: str) -> str:
        image_id = self.house.member.make(
            self.file, self.way.store, disk_format=self.way.disk_format)
        self.house.member.set_properties(
            image_id, signer.sign(self.file if signed is None else signed)
            | change)
        return image_id

    def ask(self, image_id: str, policy: str = 'when_present',
            **defaults: object) -> Result:
        """:returns: of what was made, which is deleted."""
        if self.way.copied_to:
            return self._make_disk(image_id, policy, defaults)
        with self._driver(policy, defaults) as driver:
            if self.way.replaces:
                return self._replace(driver, image_id)
            name = f'volume-{uuid.uuid4()}'
            result = driver.images.create(
                model.VolumeSpec(name, is_encrypted=self.way.is_encrypted),
                image_id, encryption=KEY if self.way.is_encrypted else None)
            driver.volumes.delete(name)
            return result

    @contextlib.contextmanager
    def _driver(self, policy: str, defaults: dict[str, object]
                ) -> Iterator[RBDDriver]:
        options = {**self.way.options, 'verify_signatures': policy}
        defaults = {'signature_certificates_dir': self.keys, **defaults}
        if not self.way.is_disk:
            yield self.house.driver(DEFAULT=defaults, optimized=options)
            return
        with self._agent(options, defaults) as agent:
            yield agent.driver

    def _agent(self, options: dict[str, object],
               defaults: dict[str, object]) -> compute.ComputeAgent:
        path = self.house.config({'DEFAULT': defaults, 'libvirt': {
            'images_type': 'rbd', 'images_rbd_pool': 'vms',
            'rbd_user': 'nova', 'images_rbd_ceph_conf':
            self.house.sandbox.env()['CEPH_CONF'], **options}})
        # A member may not have an image copied.
        role = 'admin' if self.way.copied_to else 'member'
        return compute.ComputeAgent(
            [path], environ=self.house.sandbox.env(role))

    def _make_disk(self, image_id: str, policy: str,
                   defaults: dict[str, object]) -> Result:
        with self._agent({
                'verify_signatures': policy,
                'images_rbd_glance_store_name': self.way.copied_to},
                {'signature_certificates_dir': self.keys, **defaults}
                ) as agent:
            name = f'{uuid.uuid4()}_disk'
            result = agent.disks.create(name, image_id)
            agent.disks.delete(name)
            return result

    def _replace(self, driver: RBDDriver, image_id: str) -> Result:
        """Whatever is refused, its bytes are not there in the end."""
        name = self.house.volume(b'old!' * (4 * MIB))
        old = self.house.cluster.digest('volumes', name)
        try:
            return driver.images.replace(model.VolumeSpec(name), image_id)
        except exception.SignatureInvalid:
            assert self.house.cluster.digest('volumes', name) in (
                old, content.EMPTY)
            raise
        finally:
            driver.volumes.delete(name)
            driver.reclaimer.purge()

    def refuses(self, image_id: str, why: str, *words: str,
                **defaults: object) -> None:
        unchanged = (self._no_disk() if self.way.copied_to
                     else self.house.nothing_changes())
        with unchanged, pytest.raises(
                exception.SignatureInvalid, match=why) as caught:
            self.ask(image_id, *words, **defaults)
        assert caught.value.remedy

    @contextlib.contextmanager
    def _no_disk(self) -> Iterator[None]:
        """Glance keeps its own copy."""
        yield
        assert self.house.cluster.names('vms') == []
        assert self.house.cluster.trash('vms') == []


@pytest.fixture
def counter(house: House, way: Way, tmp_path: Path) -> Iterator[Counter]:
    made = Counter(house, way, tmp_path)
    if not way.copied_to:
        yield made
        return
    # Glance does not copy what it cannot verify; then it is downloaded, and
    # refused by us.
    house.sandbox.configure_glance({
        'DEFAULT': {'signature_certificates_dir': str(made.keys)},
        'key_manager': {'backend': 'volume_rbd.signatures.certificates.'
                                   'FolderKeyManager'}})
    yield made
    house.sandbox.configure_glance({})


@every_way
def test_what_is_signed_is_taken(counter: Counter, way: Way) -> None:
    result = counter.ask(counter.make_image(), 'required')
    assert result.strategy == way.strategy
    assert result.values['signature_verified'] is True


@every_way
def test_bytes_that_were_tampered_with_are_refused(counter: Counter, way: Way
                                                   ) -> None:
    """Glance's own hash is out of the way: of what was registered by its
    location there is none."""
    image_id = counter.make_image()
    tamper(counter.house, image_id, way.store)
    forget_hash(counter.house, image_id)
    counter.refuses(image_id, 'does not fit the data')


PROBLEMS: dict[str, Callable[[Counter], None]] = {
    'other bytes': lambda counter: counter.refuses(
        counter.make_image(signed=b'other'), 'does not fit the data'),
    'expired': lambda counter: counter.refuses(
        counter.make_image(EXPIRED), 'not valid now'),
    'unknown': lambda counter: counter.refuses(
        counter.make_image(img_signature_certificate_uuid='unknown'),
        'unknown is not in the key manager'),
    'untrusted': lambda counter: counter.refuses(
        counter.make_image(), 'was not issued',
        signature_trusted_certificates=ELLIPTIC.id),
    'hash method': lambda counter: counter.refuses(
        counter.make_image(img_signature_hash_method='MD5'), 'MD5'),
    'key type': lambda counter: counter.refuses(
        counter.make_image(img_signature_key_type='ECC_SECP521R1'),
        'ECC_SECP521R1'),
    'unsigned': lambda counter: counter.refuses(
        counter.house.member.make(
            counter.file, counter.way.store,
            disk_format=counter.way.disk_format), 'not signed', 'required'),
}


@every_way
def test_whatever_nobody_vouches_for_is_refused(counter: Counter) -> None:
    for refuse in PROBLEMS.values():
        refuse(counter)
