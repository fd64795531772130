# SPDX-License-Identifier: Apache-2.0
"""Signed images of a real Glance, cloned and downloaded."""

from __future__ import annotations

import dataclasses
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.steps import Steps, cancelling_at
from tests.signing import Signer, make_signer
from volume_rbd import exception, model
from volume_rbd.driver import RBDDriver
from volume_rbd.flows import verify

DATA = content.sparse_bytes(48 * MIB + 512)
DIGEST = content.digest_of_bytes(DATA)
RSA = make_signer()
ELLIPTIC = make_signer('ECC_SECP384R1')
WAYS = {'rbd': 'clone', 'file': 'download'}
both = pytest.mark.parametrize('store', WAYS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates that everybody may have."""
    made = tmp_path_factory.mktemp('certificates')
    for signer in (RSA, ELLIPTIC):
        signer.keep(made)
    return made


@pytest.fixture
def driver(house: House, folder: Path) -> Iterator[RBDDriver]:
    return driver_of(house, folder)


def driver_of(house: House, folder: Path, policy: str = 'when_present',
              **defaults: object) -> RBDDriver:
    return house.driver(
        DEFAULT={'signature_certificates_dir': folder, **defaults},
        optimized={'verify_signatures': policy})


def make(house: House, store: str, signer: Signer = RSA,
         signed: bytes = DATA, hash_method: str = 'SHA-256',
         **change: str) -> str:
    """An image with DATA; the signature is that of *signed*.

    It is signed once it is there: while it is signed Glance takes data only
    with a key manager of its own, and then no forged data.
    """
    image_id = house.member.make(DATA, store)
    properties = signer.sign(signed, hash_method) | change
    house.member.set_properties(image_id, {
        key: value for key, value in properties.items() if value})
    return image_id


def refused(house: House, driver: RBDDriver, image_id: str, why: str
            ) -> None:
    with house.nothing_changes(), \
            pytest.raises(exception.SignatureInvalid, match=why) as caught:
        house.create(image_id, driver=driver)
    assert caught.value.remedy


@both
@pytest.mark.parametrize(('signer', 'hash_method'), [
    (RSA, 'SHA-256'), (RSA, 'SHA-512'), (ELLIPTIC, 'SHA-384')],
    ids=['RSA-256', 'RSA-512', 'ECC-384'])
def test_a_signed_image_makes_a_volume(
        house: House, driver: RBDDriver, store: str, signer: Signer,
        hash_method: str) -> None:
    image_id = make(house, store, signer, hash_method=hash_method)
    name, result = house.create(image_id, driver=driver)
    assert result.strategy == WAYS[store]
    assert result.values['signature_verified'] is True
    assert house.cluster.digest('volumes', name) == DIGEST


@both
def test_forged_data_makes_none(house: House, driver: RBDDriver, store: str
                                ) -> None:
    image_id = make(house, store, signed=DATA[:-1] + b'x')
    refused(house, driver, image_id, 'fit the data')


def test_data_that_was_changed_behind_glances_back_makes_none(
        house: House, driver: RBDDriver) -> None:
    """A clone moves no bytes, so no hash of Glance's would see it."""
    image_id = make(house, 'rbd')
    ioctx = house.cluster.ioctx('images')
    prefix = f'rbd_data.{house.cluster.image_id("images", image_id)}.'
    changed = next(each.key for each in ioctx.list_objects()
                   if each.key.startswith(prefix))
    ioctx.write(changed, b'forged', 0)
    refused(house, driver, image_id, 'fit the data')


@both
def test_the_key_of_another_makes_none(
        house: House, tmp_path: Path, store: str) -> None:
    image_id = make(house, store)
    dataclasses.replace(make_signer(), id=RSA.id).keep(tmp_path)
    refused(house, driver_of(house, tmp_path), image_id, 'fit the data')


@both
def test_a_missing_certificate_makes_none(
        house: House, tmp_path: Path, store: str) -> None:
    image_id = make(house, store)
    refused(house, driver_of(house, tmp_path), image_id,
            f'{RSA.id} is not in the key manager')


@both
def test_a_certificate_that_has_expired_makes_none(
        house: House, tmp_path: Path, store: str) -> None:
    signer = make_signer(days=(-3, -1))
    signer.keep(tmp_path)
    refused(house, driver_of(house, tmp_path), make(house, store, signer),
            'not valid now')


@both
def test_an_issuer_that_is_not_trusted_makes_none(
        house: House, folder: Path, store: str) -> None:
    driver = driver_of(house, folder,
                       signature_trusted_certificates=ELLIPTIC.id)
    refused(house, driver, make(house, store), 'was not issued')


@both
def test_an_unsigned_image_makes_none_where_a_signature_is_required(
        house: House, folder: Path, store: str) -> None:
    image_id = house.member.make(DATA, store)
    refused(house, driver_of(house, folder, 'required'), image_id,
            'not signed')


@both
def test_a_signature_without_a_part_makes_none(
        house: House, driver: RBDDriver, store: str) -> None:
    image_id = make(house, store, img_signature_hash_method='')
    refused(house, driver, image_id, 'img_signature_hash_method')


@both
def test_an_unsigned_image_is_said_to_be_unverified(
        house: House, driver: RBDDriver, store: str) -> None:
    _, result = house.create(house.member.make(DATA, store), driver=driver)
    assert result.values['signature_verified'] is False


@both
def test_nobody_looks_where_it_is_off(house: House, folder: Path, store: str
                                      ) -> None:
    image_id = make(house, store, signed=b'another')
    _, result = house.create(image_id,
                             driver=driver_of(house, folder, 'off'))
    assert 'signature_verified' not in result.values


@both
@pytest.mark.parametrize('is_forged', [False, True],
                         ids=['good', 'forged'])
def test_the_file_of_another_format_is_what_was_signed(
        house: House, driver: RBDDriver, tmp_path: Path, store: str,
        is_forged: bool) -> None:
    (tmp_path / 'raw').write_bytes(DATA)
    subprocess.run(
        ['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
         tmp_path / 'raw', tmp_path / 'qcow2'], check=True)
    file = (tmp_path / 'qcow2').read_bytes()
    image_id = house.member.make(file, store, disk_format='qcow2')
    house.member.set_properties(
        image_id, RSA.sign(DATA if is_forged else file))
    if is_forged:
        refused(house, driver, image_id, 'fit the data')
        return
    name, result = house.create(image_id, driver=driver)
    assert result.strategy == 'convert'
    assert result.values['signature_verified'] is True
    assert house.cluster.digest('volumes', name) == DIGEST


def test_a_snapshot_is_read_once_and_holes_never(
        house: House, folder: Path) -> None:
    driver = driver_of(house, folder, 'required')
    image_id = make(house, 'rbd')
    read = []
    for _ in range(2):
        report = Steps()
        _, result = house.create(image_id, driver=driver, report=report)
        assert result.strategy == 'clone'
        read.append((report.done_bytes, report.skipped_bytes))
    [(done, skipped), again] = read
    assert done + skipped == len(DATA)
    assert skipped >= 8 * MIB
    assert again == (0, 0)


def test_reading_can_be_cancelled(house: House, folder: Path) -> None:
    image_id = make(house, 'rbd', signer=ELLIPTIC)
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.create(image_id, driver=driver_of(house, folder),
                     report=cancelling_at(verify.VerifySnapshot.title))


def test_the_command_says_what_is_wrong(house: House, folder: Path) -> None:
    image_id = make(house, 'rbd', signed=b'another')
    overrides = {'DEFAULT': {'signature_certificates_dir': folder}}
    name = f'volume-{uuid.uuid4()}'
    with house.nothing_changes():
        done = house.run('create', name, '--image', image_id,
                         overrides=overrides)
    assert done.returncode == exception.SignatureInvalid.exit_code
    assert 'signature' in done.stderr


def test_the_key_manager_of_the_configuration_is_taken(
        house: House, folder: Path) -> None:
    """By the name by which Cinder and Nova would take it."""
    driver = house.driver(
        DEFAULT={'signature_certificates_dir': folder},
        key_manager={'backend':
                     'volume_rbd.signatures.certificates.FolderKeyManager'})
    _, result = house.create(make(house, 'rbd'), driver=driver)
    assert result.values['signature_verified'] is True


def test_without_barbican_a_signed_image_makes_no_volume(
        house: House) -> None:
    """The sandbox has none: its catalog says so, and nothing else."""
    refused(house, house.driver(), make(house, 'rbd'), 'cannot be fetched')


def test_verify_glance_signatures_is_the_default(
        house: House, folder: Path) -> None:
    image_id = make(house, 'rbd', signed=b'another')
    driver = house.driver(DEFAULT={
        'signature_certificates_dir': folder,
        'verify_glance_signatures': 'disabled'})
    name = f'volume-{uuid.uuid4()}'
    result = driver.images.create(model.VolumeSpec(name), image_id)
    assert 'signature_verified' not in result.values


# -- a Glance that verifies too: last, for it is a restart --------------------

@pytest.fixture
def glance_with_certificates(house: House, folder: Path) -> Iterator[None]:
    house.sandbox.configure_glance({
        'DEFAULT': {'signature_certificates_dir': str(folder)},
        'key_manager': {'backend': 'volume_rbd.signatures.certificates.'
                                   'FolderKeyManager'}})
    yield
    house.sandbox.configure_glance({})


@pytest.mark.usefixtures('glance_with_certificates')
def test_glance_takes_the_same_folder_for_its_own_verification(
        house: House, driver: RBDDriver) -> None:
    image_id = house.member.make(DATA, 'rbd', **RSA.sign(DATA))
    _, result = house.create(image_id, driver=driver)
    assert result.values['signature_verified'] is True
    forged = house.member.create(**RSA.sign(b'another'))
    answer = house.member.request(
        'PUT', f'/images/{forged}/file', data=DATA,
        headers={'Content-Type': 'application/octet-stream'})
    assert answer.status_code == 400
