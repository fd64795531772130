# SPDX-License-Identifier: Apache-2.0
"""Volumes from images and images from volumes, through Cinder's API."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cinderclient import api_versions, exceptions
from cinderclient import client as cinder_client

from tests.e2e.traces import IMAGES, POOLS, Traces, no_file_in, opened, soon
from tests.functional import content, formats
from tests.functional.api import GlanceAPI
from tests.signing import make_signer
from volume_rbd.sandbox import Sandbox

DATA = content.sparse_bytes(32 * content.MIB)
DIGEST = content.digest_of_bytes(DATA)
SIZE = 1024 ** 3

backends = pytest.mark.parametrize('backend', ['on', 'off'])


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


# -- a volume from an image --------------------------------------------------
@backends
def test_a_raw_image_in_rbd_is_cloned(traces: Traces, backend: str) -> None:
    image = traces.image(DATA, os_distro='plan9')
    with no_file_in(traces.conversion):
        volume = traces.volume(backend, imageRef=image)
    assert traces.digest(volume, POOLS[backend]) == DIGEST
    assert traces.parent(volume, POOLS[backend]) == f'images/{image}'
    assert traces.says(volume, image, ' by clone: Image and volume share')
    record = traces.cinder.show(volume)
    assert record.bootable == 'true'
    kept = record.volume_image_metadata
    assert (kept['image_id'], kept['os_distro']) == (image, 'plan9')
    assert kept['signature_verified'] == 'False'


def test_a_raw_image_in_files_is_downloaded(traces: Traces) -> None:
    image = traces.image(DATA, 'file')
    with no_file_in(traces.conversion):
        volume = traces.volume('on', imageRef=image)
    assert traces.digest(volume) == DIGEST
    assert traces.parent(volume) is None
    assert traces.says(volume, ' by download: The image does not lie in RBD')


@pytest.mark.parametrize('store', ['rbd', 'file'])
def test_a_qcow2_image_is_converted(traces: Traces, tmp_path: Path,
                                    store: str) -> None:
    image = traces.image(formats.make(tmp_path, DATA, 'qcow2'), store,
                         disk_format='qcow2')
    with no_file_in(traces.conversion):
        volume = traces.volume('on', 2, imageRef=image)
    assert traces.digest(volume) == DIGEST
    assert traces.cluster.size('volumes', f'volume-{volume}') == 2 * SIZE
    assert traces.says(volume, ' by convert: The disk format is not raw')


def test_a_private_image_of_others_is_refused(traces: Traces,
                                              sandbox: Sandbox) -> None:
    image = traces.image(DATA, glance=GlanceAPI(sandbox.env('other')))
    with pytest.raises(Exception, match='Invalid image identifier'):
        traces.volume('on', imageRef=image)


def test_an_image_larger_than_the_volume_is_refused(
        traces: Traces, tmp_path: Path) -> None:
    """By the API where Glance knows how large it is, else by the driver."""
    disk = tmp_path / 'disk.qcow2'
    formats.run('create', '-f', 'qcow2', disk, '3G')
    image = traces.image(disk.read_bytes(), disk_format='qcow2')
    with pytest.raises(exceptions.BadRequest, match='virtual size is 3GB'):
        traces.volume('on', imageRef=image)
    traces.forget_virtual_size(image)
    with no_file_in(traces.conversion):
        volume = traces.volume('on', status='error', imageRef=image)
    said = traces.message(volume)
    assert 'image' in said.lower(), said
    assert f'volume-{volume}' not in traces.cluster.names('volumes')


def test_an_image_that_is_not_active_is_refused(traces: Traces) -> None:
    image = traces.image(b'')
    with pytest.raises(Exception, match='not active'):
        traces.volume('on', imageRef=image)


def test_a_signature_that_nobody_can_check_makes_no_volume(traces: Traces
                                                           ) -> None:
    image = traces.image(DATA)
    traces.glance.set_properties(image, make_signer().sign(DATA))
    volume = traces.volume('on', status='error', imageRef=image)
    assert 'signature' in traces.message(volume).lower()
    assert f'volume-{volume}' not in traces.cluster.names('volumes')


# -- an image from a volume --------------------------------------------------
def test_an_upload_with_the_optimisation_moves_no_data(traces: Traces
                                                       ) -> None:
    volume, digest = traces.written('on')
    started = time.monotonic()
    with no_file_in(traces.conversion):
        image = traces.upload(volume)
    assert time.monotonic() - started < 6
    assert traces.cluster.parent(IMAGES, image) == f'volumes/volume-{volume}'
    assert _count_objects(traces, image) == 0
    assert traces.glance.digest(image) == digest
    assert traces.glance.get(image)['size'] == SIZE
    assert traces.says(volume, image, ' by clone: Image and volume share')


def test_an_upload_without_it_is_a_copy(traces: Traces) -> None:
    volume, digest = traces.written('off')
    with no_file_in(traces.conversion):
        image = traces.upload(volume)
    assert traces.cluster.parent(IMAGES, image) is None
    assert traces.glance.digest(image) == digest
    assert traces.says(volume, image,
                       ' by upload: enable_clone_optimization is off')


@backends
def test_the_two_cases(traces: Traces, backend: str) -> None:
    """A volume, an image of it, a volume of that, each without the others
    once they are deleted in any order."""
    volume, digest = traces.written(backend)
    image = traces.upload(volume)
    again = traces.volume(backend, imageRef=image)
    assert traces.digest(again, POOLS[backend]) == digest
    traces.cinder.delete(volume)
    third = traces.volume(backend, imageRef=image)
    assert traces.digest(third, POOLS[backend]) == digest


@backends
def test_an_upload_can_be_qcow2(traces: Traces, tmp_path: Path, backend: str
                                ) -> None:
    volume, digest = traces.written(backend)
    with no_file_in(traces.conversion):
        image = traces.upload(volume, disk_format='qcow2')
    file = traces.glance.request('GET', f'/images/{image}/file').content
    assert len(file) < 64 * content.MIB
    disk = formats.read(tmp_path, file, 'qcow2')
    assert len(disk) == SIZE
    assert content.digest_of_bytes(disk) == digest
    assert traces.says(volume, image, ' by convert: The disk format')


def test_the_store_of_the_type_wins(traces: Traces) -> None:
    client = traces.admin.client.volume_types
    kind = client.create('to-files')
    try:
        kind.set_keys({'volume_backend_name': 'on',
                       'image_service:store_id': 'file'})
        volume = traces.volume('to-files')
        digest = traces.write(volume)
        image = traces.upload(volume)
        assert traces.glance.get(image)['stores'] == 'file'
        assert traces.glance.digest(image) == digest
        assert traces.says(volume, image, ' by upload: ', 'store file')
        traces.clean_up()
    finally:
        client.delete(kind.id)


@backends
def test_an_image_of_a_volume_in_use_is_of_one_moment(
        traces: Traces, backend: str) -> None:
    volume = traces.volume(backend)
    pool, name = POOLS[backend], f'volume-{volume}'
    first, last = 0, SIZE - 4096
    with traces.cinder.attached(volume), \
            _counting(traces, pool, name, first, last) as count:
        assert soon(lambda: count[0] > 20)
        image = traces.upload(volume, force=True)
        at_the_end = count[0]
    data = traces.glance.request('GET', f'/images/{image}/file').content
    one, two = (int.from_bytes(data[at:at + 8], 'big')
                for at in (first, last))
    assert 20 <= two <= one <= two + 1
    assert one < at_the_end


@contextmanager
def _counting(traces: Traces, pool: str, name: str, first: int, last: int
              ) -> Iterator[list[int]]:
    """A guest that writes a number here, and when it is there, there."""
    count, is_over = [0], threading.Event()
    with traces.cluster.open(pool, name) as image:
        def write() -> None:
            while not is_over.wait(0.005):
                number = (count[0] + 1).to_bytes(8, 'big') + bytes(4088)
                image.write(number, first)
                image.flush()
                image.write(number, last)
                image.flush()
                count[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield count
        finally:
            is_over.set()
            writer.join()


def test_two_uploads_at_once_are_the_apis_to_refuse(traces: Traces) -> None:
    volume, digest = traces.written('off')
    first = traces.upload(volume, status=None)
    with pytest.raises(Exception, match='status must be available'):
        traces.upload(volume)
    traces.glance.wait_for_status(first, 'active')
    traces.cinder.wait_for_status(volume, 'available')
    assert traces.glance.digest(first) == digest


@backends
def test_an_encrypted_volume_becomes_an_image_and_a_volume(
        traces: Traces, backend: str) -> None:
    pool = POOLS[backend]
    volume = traces.volume(f'{backend}-encrypted')
    # Behind the header, as what a guest has encrypted.
    traces.cluster.write(pool, f'volume-{volume}',
                         content.random_bytes(content.MIB), 512 * content.MIB)
    image = traces.upload(volume)
    assert traces.cluster.parent(IMAGES, image) is None
    assert traces.glance.get(image)['cinder_encryption_key_id']
    # The header came on top, so the image is larger than the volume was.
    again = traces.volume(f'{backend}-encrypted', 2, imageRef=image)
    assert traces.digest(again, pool) == traces.digest(volume, pool)
    assert traces.parent(again, pool) is None


# -- another image for a volume that is there --------------------------------
@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_another_image_replaces_the_content_and_not_the_snapshot(
        traces: Traces, tmp_path: Path, disk_format: str) -> None:
    volume, digest = traces.written('on')
    snapshot = traces.snapshot(volume)
    file = (DATA if disk_format == 'raw' else
            formats.make(tmp_path, DATA, disk_format))
    image = traces.image(file, disk_format=disk_format)
    client = cinder_client.Client(
        api_versions.APIVersion('3.68'), session=traces.cinder.session)
    with no_file_in(traces.conversion):
        client.volumes.reimage(volume, image)
        traces.cinder.wait_for_status(volume, 'available')
    assert traces.digest(volume) == DIGEST
    assert traces.cluster.digest(
        'volumes', f'volume-{volume}', f'snapshot-{snapshot}') == digest
    assert traces.cinder.show(volume).volume_image_metadata[
        'image_id'] == image


def _count_objects(traces: Traces, image: str) -> int:
    """How many RADOS objects with data an image has of its own."""
    prefix = f'rbd_data.{traces.cluster.image_id(IMAGES, image)}.'
    return sum(found.key.startswith(prefix) for found in
               traces.cluster.ioctx(IMAGES).list_objects())
