# SPDX-License-Identifier: Apache-2.0
"""Options that are surely a mistake are refused, with what may be meant."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from oslo_config import cfg

from volume_rbd import exception, opts, sections

Load = Callable[[str], cfg.ConfigOpts]

#: What Cinder 29 itself reads of a backend's section, and the stock driver.
OF_CINDER = """\
backend_availability_zone = nova
backend_host = rbd:ceph
backend_native_threads_pool_size = 20
chap_username = x
driver_data_namespace = x
enable_unsupported_driver = false
extra_capabilities = {}
filter_function = true
goodness_function = 50
image_conversion_dir = /var/lib/cinder/conversion
image_upload_use_cinder_backend = false
image_volume_cache_enabled = true
image_volume_cache_max_count = 0
image_volume_cache_max_size_gb = 0
max_over_subscription_ratio = auto
num_volume_device_scan_tries = 3
report_discard_supported = true
reserved_percentage = 5
storage_protocol = ceph
suppress_requests_ssl_warnings = false
target_prefix = iqn
trace_flags = api
use_multipath_for_image_xfer = false
volume_backend_name = ceph
volume_clear = zero
volume_clear_size = 0
volume_copy_bps_limit = 0
volume_dd_blocksize = 1M
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volumes_dir = /var/lib/cinder/volumes
zoning_mode = fabric
deferred_deletion_delay = 0
deferred_deletion_purge_interval = 60
enable_deferred_deletion = false
rados_connect_timeout = -1
rados_connection_interval = 5
rados_connection_retries = 3
rbd_ceph_conf = /etc/ceph/ceph.conf
rbd_cluster_name = ceph
rbd_concurrent_flatten_operations = 3
rbd_exclusive_cinder_pool = true
rbd_flatten_volume_from_snapshot = false
rbd_keyring_conf = /etc/ceph/keyring
rbd_max_clone_depth = 0
rbd_pool = volumes
rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337
rbd_store_chunk_size = 4
rbd_user = cinder
replication_connect_timeout = 5
report_dynamic_total_capacity = true
"""


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Load:
    def load_text(text: str) -> cfg.ConfigOpts:
        path = tmp_path / 'cinder.conf'
        path.write_text(text)
        return opts.load_config([str(path)])
    return load_text


def _section(lines: str) -> str:
    return f'[DEFAULT]\nenabled_backends = ceph\n[ceph]\n{lines}\n'


def _refusal(conf: cfg.ConfigOpts) -> exception.ConfigurationError:
    with pytest.raises(exception.ConfigurationError) as caught:
        opts.get_backend_config(conf, 'ceph')
    assert "'ceph'" in caught.value.message
    assert caught.value.remedy
    return caught.value


# -- what a file for the stock driver has -------------------------------------

def test_every_option_of_the_stock_driver_and_of_cinder_passes(load: Load
                                                               ) -> None:
    config = opts.get_backend_config(load(_section(OF_CINDER)), 'ceph')
    assert config.reserved_percentage == 5
    assert config.max_over_subscription_ratio == 'auto'


def test_the_options_for_stats_and_attaching_are_read(load: Load) -> None:
    config = opts.get_backend_config(load(_section(
        'rbd_attach_user = compute\nreport_dynamic_total_capacity = no\n'
        'rbd_exclusive_cinder_pool = no\nreserved_percentage = 10\n'
        'max_over_subscription_ratio = 1.5')), 'ceph')
    assert config.attach_user == 'compute'
    assert not config.report_dynamic_total
    assert not config.is_exclusive_pool
    assert config.reserved_percentage == 10
    assert config.max_over_subscription_ratio == '1.5'


@pytest.mark.parametrize('line', [
    'reserved_percentage = 101', 'reserved_percentage = -1',
    'max_over_subscription_ratio = lots',
    'max_over_subscription_ratio = -1',
    'report_dynamic_total_capacity = perhaps',
    'background_operations = 0', 'background_bytes_per_s = -1',
    'background_tasks = perhaps',
    'rbd_exclusive_cinder_pool = perhaps'])
def test_a_wrong_value_is_told(load: Load, line: str) -> None:
    assert line.split()[0] in _refusal(load(_section(line))).message


# -- what nobody knows --------------------------------------------------------

@pytest.mark.parametrize(('option', 'meant'), [
    ('rbd_pol', 'rbd_pool'), ('rbd_usr', 'rbd_user'),
    ('rbd_max_clone_dept', 'rbd_max_clone_depth'),
    ('rbd_attach_usr', 'rbd_attach_user'),
    ('enable_clone_optimisation', 'enable_clone_optimization'),
    ('clone_upload_flaten', 'clone_upload_flatten'),
    ('rados_conect_timeout', 'rados_connect_timeout'),
    ('reserved_percent', 'reserved_percentage')])
def test_a_mistyped_option_is_told_with_the_right_one(
        load: Load, option: str, meant: str) -> None:
    error = _refusal(load(_section(f'{option} = 1')))
    assert f'{option!r} (did you mean {meant!r}?)' in error.message


def test_an_option_of_rbd_that_is_like_no_other_is_told(load: Load) -> None:
    error = _refusal(load(_section('rbd_zzzzzzzzzz = 1')))
    assert error.message.endswith("there is no option 'rbd_zzzzzzzzzz'.")


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    error = _refusal(load(_section('rbd_pol = 1\nrbd_usr = 2')))
    assert "'rbd_pol'" in error.message
    assert "'rbd_usr'" in error.message


@pytest.mark.parametrize('option', ['my_own_note', 'nfs_mount_options',
                                    'volume_group', 'san_ip'])
def test_what_is_somebody_elses_passes(load: Load, option: str) -> None:
    opts.get_backend_config(load(_section(f'{option} = x')), 'ceph')


def test_only_the_section_of_the_backend_is_looked_at(load: Load) -> None:
    conf = load(_section('rbd_pool = p') + '[other]\nrbd_pol = x\n')
    opts.get_backend_config(conf, 'ceph')


def test_mistakes_are_found_in_every_file_and_folder(tmp_path: pathlib.Path
                                                     ) -> None:
    first, folder = tmp_path / 'cinder.conf', tmp_path / 'cinder.conf.d'
    folder.mkdir()
    first.write_text(_section('rbd_pool = p\nrbd_first = 1'))
    (folder / 'b.conf').write_text('[ceph]\nrbd_second = 1\n')
    (folder / 'not-read').write_text('[ceph]\nrbd_third = 1\n')
    conf = opts.load_config([str(first)], [str(folder)])
    assert [found.option for found in opts.find_unknown(conf, 'ceph')] == [
        'rbd_first', 'rbd_second']
    assert sections.read(conf, 'ceph')['rbd_pool'] == 'p'


def test_a_configuration_that_does_not_know_our_options_will_do(
        tmp_path: pathlib.Path) -> None:
    """The service has its own."""
    path = tmp_path / 'cinder.conf'
    path.write_text(_section('rbd_pol = 1'))
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    assert [str(found) for found in opts.find_unknown(conf, 'ceph')] == [
        "'rbd_pol' (did you mean 'rbd_pool'?)"]
    with pytest.raises(exception.ConfigurationError, match='rbd_pol'):
        opts.check_unknown(conf, 'ceph')


# -- contradictions -----------------------------------------------------------

@pytest.mark.parametrize(('lines', 'named'), [
    ('clone_upload_flatten = background',
     ['clone_upload_flatten', 'enable_clone_optimization']),
    ('rbd_secret_uuid = secret', ['rbd_secret_uuid', 'UUID']),
    ('rbd_attach_user = client.compute', ['rbd_attach_user', 'client.']),
    ('background_hours = 9:30-17:00', ['background_hours', '9:30']),
    ('background_hours = 22-6', ['background_hours', 'HH:MM-HH:MM']),
    ('background_hours = 24:00-06:00', ['background_hours', '24:00']),
    ('background_hours = 06:00-06:00', ['background_hours', 'begins']),
    ('background_tasks = mgr\nbackground_bytes_per_s = 1',
     ['background_tasks', 'background_bytes_per_s']),
    ('replication_device = backend_id:second,conf:/etc/ceph/second.conf',
     ['replication_device', 'later release']),
])
def test_what_cannot_be_meant_is_refused(load: Load, lines: str,
                                         named: list[str]) -> None:
    message = _refusal(load(_section(lines))).message
    assert all(name in message for name in named)


@pytest.mark.parametrize('lines', [
    'rbd_max_clone_depth = 0', 'clone_upload_flatten = never',
    'background_hours =', 'background_hours = 22:00-06:00',
    'background_tasks = mgr', 'background_bytes_per_s = 1000',
    'deferred_deletion_delay = 60', 'rbd_secret_uuid =',
    'rbd_attach_user =',
    # never to clone, and to copy instead
    'enable_clone_optimization = true\nrbd_max_clone_depth = 0',
    'enable_clone_optimization = true\nclone_upload_flatten = background'])
def test_what_can_be_meant_passes(load: Load, lines: str) -> None:
    opts.get_backend_config(load(_section(lines)), 'ceph')


def test_a_default_for_several_backends_contradicts_none_of_them(load: Load
                                                                 ) -> None:
    conf = load('[DEFAULT]\nenabled_backends = on, off\n'
                '[backend_defaults]\nclone_upload_flatten = background\n'
                '[on]\nenable_clone_optimization = true\n[off]\n')
    for name in ('on', 'off'):
        assert opts.get_backend_config(conf, name).clone_upload_flatten == (
            'background')
    conf = load('[DEFAULT]\nenabled_backends = ceph\n'
                '[backend_defaults]\nenable_clone_optimization = true\n'
                '[ceph]\nclone_upload_flatten = background\n')
    opts.get_backend_config(conf, 'ceph')


@pytest.mark.parametrize(('text', 'hours'), [
    ('', None), ('22:00-06:00', (1320, 360)), ('09:30-17:05', (570, 1025))])
def test_hours_are_minutes_of_the_day(load: Load, text: str,
                                      hours: tuple[int, int] | None) -> None:
    conf = load(_section(f'background_hours = {text}'))
    assert opts.get_backend_config(conf, 'ceph').background_hours == hours
