# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from volume_rbd import compute, exception, model, opts

Get = Callable[[str], compute.ComputeConfig]


@pytest.fixture
def get(tmp_path: Path) -> Get:
    def read(text: str) -> compute.ComputeConfig:
        path = tmp_path / 'nova.conf'
        path.write_text(text)
        return compute.get_config(opts.load_config([str(path)]))
    return read


def test_nothing_is_set(get: Get) -> None:
    config = get('')

    assert config.images_type == 'qcow2'
    assert config.store_folder == Path('/var/lib/nova/instances/disks')
    assert config.fetch.cache_folder == Path('/var/lib/nova/instances/_base')
    assert config.fetch.schemes == ()
    assert config.connection_uri == 'qemu:///system'
    assert config.disks.verify_signatures == 'when_present'


def test_the_words_of_nova(get: Get) -> None:
    config = get('[libvirt]\nimages_type = rbd\nimages_rbd_pool = vms\n'
                 'images_rbd_ceph_conf = /c.conf\nrbd_user = nova\n'
                 'rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337\n'
                 'rbd_connect_timeout = 7\nrbd_destroy_volume_retries = 3\n')

    assert config.disks.pool == 'vms'
    assert config.disks.cluster.user == 'nova'
    assert config.disks.cluster.ceph_conf == '/c.conf'
    assert config.disks.cluster.connect_timeout_s == 7
    assert config.disks.secret_uuid == '457eb676-33da-42ec-9a8c-9293d545c337'


def test_images_store_is_a_pool_or_a_folder(get: Get) -> None:
    assert get('[libvirt]\nimages_type = rbd\nimages_store = fast\n'
               'images_rbd_pool = vms\n').disks.pool == 'fast'
    config = get('[libvirt]\nimages_type = raw\nimages_store = /disks\n')
    assert config.store_folder == Path('/disks')


def test_guests_open_their_disks_as_the_agent_does(get: Get) -> None:
    config = get('[libvirt]\nrbd_user = nova\nrbd_attach_user = other\n')

    assert config.disks.attach_user is None


def test_snapshots_are_flattened_clones_unless_told_otherwise(get: Get
                                                              ) -> None:
    config = get('[libvirt]\nimages_type = rbd\n')
    assert config.disks.enable_clone_optimization
    assert config.disks.clone_upload_flatten == 'before_register'

    config = get('[libvirt]\nenable_clone_optimization = false\n'
                 'clone_upload_flatten = never\n')
    assert not config.disks.enable_clone_optimization
    assert config.disks.clone_upload_flatten == 'never'


def test_images_are_read_as_somebody_else(get: Get) -> None:
    config = get('[libvirt]\nrbd_user = nova\nimages_rbd_ceph_conf = /a\n'
                 '[glance]\nrbd_user = reader\nenable_rbd_download = true\n'
                 'rbd_connect_timeout = -1\n')

    assert config.fetch.cluster.user == 'reader'
    assert config.fetch.cluster.ceph_conf == '/a'
    assert config.fetch.cluster.connect_timeout_s is None
    assert config.fetch.schemes == ('rbd',)


def test_nova_wants_signatures(get: Get) -> None:
    wanted = '[glance]\nverify_glance_signatures = true\n'

    assert get(wanted).disks.verify_signatures == 'required'
    assert get(wanted + '[libvirt]\nverify_signatures = off\n'
               ).disks.verify_signatures == 'off'


def test_the_cache_has_another_name(get: Get) -> None:
    config = get('[DEFAULT]\ninstances_path = /i\n'
                 '[image_cache]\nsubdirectory_name = cache\n')

    assert config.fetch.cache_folder == Path('/i/cache')


def test_disks_are_striped_and_their_data_lies_elsewhere(get: Get) -> None:
    assert get('').disks.layout == model.Layout(4 * model.MIB)
    config = get('[libvirt]\nrbd_store_chunk_size = 8\n'
                 'images_rbd_stripe_unit = 64\nimages_rbd_stripe_count = 16\n'
                 'images_rbd_data_pool = vms-data\n')
    assert config.disks.layout == model.Layout(
        8 * model.MIB, 64 * 1024, 16, 'vms-data')


@pytest.mark.parametrize('text', ['images_type = lvm',
                                  'images_rbd_stripe_unit = 64',
                                  'images_rbd_stripe_count = 4',
                                  'images_rbd_stripe_unit = 96\n'
                                  'images_rbd_stripe_count = 4',
                                  'images_rbd_stripe_unit = 8192\n'
                                  'images_rbd_stripe_count = 4',
                                  'rbd_store_chunk_size = 3',
                                  'images_rbd_glance_copy_timeout = soon'])
def test_what_makes_no_sense(get: Get, text: str) -> None:
    with pytest.raises(exception.ConfigurationError):
        get(f'[libvirt]\n{text}\n')
