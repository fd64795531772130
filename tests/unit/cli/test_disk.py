# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd disk`` in this process, with the in-memory cloud."""

from __future__ import annotations

import io
import pathlib
import sys

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.compute.conftest import DISK, INSTANCE, Compute
from tests.unit.world import StoringGlance
from volume_rbd import manager
from volume_rbd.ceph import connection

CONF = """\
[libvirt]
images_type = rbd
images_rbd_pool = vms
rbd_user = nova
clone_registration_timeout = 1
rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337
"""


@pytest.fixture
def compute() -> Compute:
    return Compute()


@pytest.fixture
def nova(compute: Compute, run: Run, tmp_path: pathlib.Path,
         monkeypatch: pytest.MonkeyPatch) -> Run:
    """``volume-rbd`` with a nova.conf of that cloud."""
    path = tmp_path / 'nova.conf'
    path.write_text(CONF)
    monkeypatch.setenv('VOLUME_RBD_CONFIG', str(path))
    monkeypatch.setattr(connection, 'connect', lambda config: compute.cluster)
    monkeypatch.setattr(manager, 'open_glance',
                        lambda conf, environ: compute.world.glance)
    return run


def _add(path: str, text: str) -> None:
    with pathlib.Path(path).open('a') as stream:
        stream.write(text)


def test_a_disk_is_created_from_an_image(nova: Run, compute: Compute) -> None:
    image_id = compute.world.make_image()
    done = nova('disk', 'create', DISK, '--image', image_id, '--size', '2',
                '-f', 'json')

    assert done.code == 0, done.err
    assert done.json['strategy'] == 'clone'
    assert done.json['pool'] == 'vms'
    assert done.json['size_gib'] == 2
    assert done.json['image_id'] == image_id
    assert 'cloning the image' in done.err


def test_a_disk_of_an_image_that_glance_has_copied(
        nova: Run, compute: Compute, tmp_path: pathlib.Path) -> None:
    _add(str(tmp_path / 'nova.conf'), 'images_rbd_glance_store_name = rbd\n')
    image_id = compute.world.make_image(store_id='file')
    refused = nova('disk', 'create', DISK, '--image', image_id, '-f', 'json')
    assert refused.json['strategy'] == 'download'
    assert refused.json['not_copied'] in refused.json['sentence']

    compute.world.glance = StoringGlance(compute.world.server,
                                         roles=('admin',))
    done = nova('disk', 'create', DISK + '2', '--image', image_id,
                '-f', 'json')
    assert done.json['strategy'] == 'clone'
    assert done.json['copied_to_store'] == 'rbd'


def test_an_empty_disk_is_created_shown_grown_and_deleted(nova: Run) -> None:
    done = nova('disk', 'create', DISK, '--size', '1', '-f', 'json')
    assert (done.json['origin'], done.json['size_gib']) == ('blank', 1)
    assert nova('disk', 'create', DISK).code == 2

    shown = nova('disk', 'show', DISK, '-f', 'json').json
    assert shown['object_size_bytes'] == 4 * 1024 ** 2
    assert shown['data_pool'] is None
    assert nova('disk', 'resize', DISK, '3', '-f', 'json').json[
        'size_gib'] == 3
    assert nova('disk', 'resize', DISK, '2').code == 2
    [row] = nova('disk', 'list', '-f', 'json').json
    assert row == {'name': DISK, 'size_gib': 3, 'parent': None,
                   'snapshots': 0, 'is_open': False}
    gone = nova('disk', 'delete', DISK, 'nothing', '-f', 'json')
    assert gone.code == 3
    assert [row['state'] for row in gone.json] == ['deleted']
    assert nova('disk', 'list', '-f', 'json').json == []


def test_disks_are_a_backend_for_every_other_command(
        nova: Run, compute: Compute) -> None:
    compute.vms.create(DISK, 4096)

    assert nova('--backend', 'libvirt', 'show', DISK, '-f',
                'json').json['pool'] == 'vms'
    for command in (['jobs', 'list'], ['reclaim']):
        done = nova('--backend', 'libvirt', *command, '-f', 'json')
        assert (done.code, done.json) == (0, [])


def test_a_disk_becomes_an_image(nova: Run, compute: Compute) -> None:
    with compute.disks() as disks:
        compute.make_disk(disks)
    done = nova('disk', 'snapshot', DISK, '--image-name', 'mine',
                '-f', 'json')
    assert done.code == 0, done.err
    assert (done.json['strategy'], done.json['disk_format']) == (
        'clone', 'raw')
    image = compute.world.glance.get_image(done.json['image_id'])
    assert (image.name, image.status) == ('mine', 'active')


def test_a_disk_goes_back(nova: Run, compute: Compute) -> None:
    with compute.disks() as disks:
        disks.create_blank(DISK, 4096)
        disks.snapshots.create(DISK, 'before')
    done = nova('disk', 'rollback', f'{DISK}@before', '-f', 'json')
    assert done.json['snapshots'] == ['before']
    assert nova('disk', 'rollback', f'{DISK}@never').code == 3
    assert nova('disk', 'rollback', DISK).code == 2


def test_clean_up_is_a_dry_run_unless_told(nova: Run, compute: Compute
                                           ) -> None:
    other = 'f3b0c5a4-14e5-4a90-9d5e-8a0e3c1d2b76_disk'
    with compute.disks() as disks:
        for name in (DISK, other):
            disks.create_blank(name, 4096)
        disks.snapshots.create(DISK, 'before')
    words = ('disk', 'clean-up', '--filter', f'{INSTANCE}_', '-f', 'json')

    found = nova(*words)
    assert found.json == [{'name': DISK, 'state': 'found', 'reason': ''}]
    assert nova('disk', 'clean-up', '--filter', '').code == 2

    stayed = nova(*words, '--yes')
    assert stayed.code == 4
    assert '1 disk(s) stay' in stayed.err
    assert stayed.json[0]['state'] == 'has snapshots'

    gone = nova(*words, '--yes', '--with-snapshots')
    assert (gone.code, gone.json[0]['state']) == (0, 'removed')
    assert compute.names() == [other]


def test_the_room_is_told(nova: Run) -> None:
    found = nova('disk', 'capacity', '-f', 'json').json
    assert found['pool'] == 'vms'
    assert 0 < found['free_bytes'] <= found['total_bytes']


def test_the_xml_of_a_guest_gets_the_live_monitors(
        nova: Run, tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    guest = ("<disk><source protocol='rbd' name='vms/x'><host name='h'/>"
             "<auth><secret uuid='457eb676-33da-42ec-9a8c-9293d545c337'/>"
             '</auth></source></disk>\n')
    path = tmp_path / 'guest.xml'
    path.write_text(guest)
    wanted = guest.replace("<host name='h'/>",
                           "<host name='127.0.0.1' port='6789'/>")

    assert nova('disk', 'migrate-xml', str(path)).out == wanted
    monkeypatch.setattr(sys, 'stdin', io.StringIO(guest))
    assert nova('disk', 'migrate-xml', '-').out == wanted
    assert nova('disk', 'migrate-xml', str(tmp_path / 'none')).code == 2
