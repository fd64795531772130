# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd fetch`` in this process, with the in-memory cloud."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.world import World, content
from volume_rbd import exception
from volume_rbd.compute import cache

DATA = content()


@pytest.fixture
def nova(cloud: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """With a nova.conf whose image cache is ``_base`` in *tmp_path*."""
    path = tmp_path / 'nova.conf'
    path.write_text(f'[DEFAULT]\ninstances_path = {tmp_path}\n'
                    '[glance]\nallowed_direct_url_schemes = rbd\n'
                    '[libvirt]\nrbd_user = cinder\n')
    monkeypatch.setenv('VOLUME_RBD_CONFIG', str(path))
    return cloud


def test_an_image_is_fetched_into_the_cache(nova: Run, world: World,
                                            tmp_path: Path) -> None:
    image_id = world.make_image(DATA)
    path = tmp_path / '_base' / cache.name_for(image_id)

    ended = nova('fetch', image_id, '-f', 'json')

    assert ended.code == 0, ended.err
    fields = ended.json
    assert fields.pop('seconds') >= 0
    assert fields.pop('bytes_moved') <= len(DATA)
    assert fields.pop('sentence').endswith('.')
    assert fields == {
        'path': str(path), 'strategy': 'export',
        'reason': 'snapshot_readable', 'disk_format': 'raw',
        'size_bytes': len(DATA), 'disk_bytes': len(DATA),
        'hash': 'sha512:' + hashlib.sha512(DATA).hexdigest(),
        'signature_verified': False}
    assert path.read_bytes() == DATA
    assert 'reading the image from RBD\n' in ended.err


def test_the_file_may_be_another(nova: Run, world: World, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a folder is one in the folder of whoever types it."""
    image_id = world.make_image(DATA)
    monkeypatch.chdir(tmp_path)

    fields = nova('fetch', image_id, '--output', 'mine', '-f', 'json').json

    assert fields['path'] == str(tmp_path / 'mine')
    assert (tmp_path / 'mine').read_bytes() == DATA


def test_a_fallback_tells_both_ways(nova: Run, world: World) -> None:
    image_id = world.make_image(DATA)
    world.ceph.fail_next('read', exception.OperationTimeout('Too slow.'))
    world.ceph.fail_next('aio_read', exception.OperationTimeout('Too slow.'))
    fields = nova('fetch', image_id, '-f', 'json').json
    assert fields['attempts'] == (
        'export (snapshot_readable), download (cluster_unavailable)')
    assert 'Too slow.' in fields['sentence']


def test_a_format_that_cannot_be_made_is_refused_by_the_parser(nova: Run
                                                               ) -> None:
    assert nova('fetch', 'x', '--disk-format', 'vdi').code == 2


def test_an_image_that_is_not_there_has_its_code(nova: Run, tmp_path: Path
                                                 ) -> None:
    ended = nova('fetch', 'nothing')
    assert ended.code == exception.GlanceImageNotFound.exit_code
    assert not (tmp_path / '_base').exists()
