# SPDX-License-Identifier: Apache-2.0
"""The configuration, from a cinder.conf as it is."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
from collections.abc import Callable

import pytest
from oslo_config import cfg, generator

from volume_rbd import exception, model, opts
from volume_rbd.model import GIB, MIB

CINDER_CONF = """\
[DEFAULT]
enabled_backends = lvm, ceph, ssd, nfs, plain
default_volume_type = ceph
transport_url = rabbit://stackrabbit:secret@10.0.0.1:5672/
glance_api_servers = http://10.0.0.1:9292, http://10.0.0.2:9292
glance_num_retries = 7
my_ip = 10.0.0.1
per_volume_gigabytes = 100

[database]
connection = mysql+pymysql://root:secret@127.0.0.1/cinder

[keystone_authtoken]
username = cinder

[lvm]
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
volume_group = stack-volumes

[ceph]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = ceph
rbd_pool = volumes
rbd_user = cinder
rbd_ceph_conf = /etc/ceph/ceph.conf
rbd_flatten_volume_from_snapshot = false
rbd_max_clone_depth = 3
rbd_store_chunk_size = 8
rados_connect_timeout = 5
rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337
image_volume_cache_enabled = true

[ssd]
volume_driver = volume_rbd.cinder.driver.VolumeRBDDriver
rbd_pool = ssd
rbd_cluster_name = fast
enable_clone_optimization = true
allow_legacy_locations = true
clone_upload_flatten = background
clone_registration_timeout = 9
rbd_image_pools = images, images-ssd
upload_store = fast
image_base_cache = true
image_base_cache_max_count = 3
image_base_cache_max_gib = 7
copy_operations = 4
copy_bandwidth = 100
verify_copies = true
glance_secure_hash = false
glance_hashing_algorithm = sha256
rbd_concurrent_flatten_operations = 1
flow_connection = dir:///var/lib/volume-rbd

[nfs]
volume_driver = cinder.volume.drivers.nfs.NfsDriver
"""

Load = Callable[[str], cfg.ConfigOpts]


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Load:
    def load_text(text: str) -> cfg.ConfigOpts:
        path = tmp_path / 'cinder.conf'
        path.write_text(text)
        return opts.load_config([str(path)])
    return load_text


def _section(lines: str, backend: str = 'ceph') -> str:
    return f'[DEFAULT]\nenabled_backends = {backend}\n[{backend}]\n{lines}\n'


def test_a_cinder_conf_works_as_it_is(load: Load) -> None:
    config = opts.get_backend_config(load(CINDER_CONF), 'ceph')
    assert config == opts.BackendConfig(
        name='ceph', pool='volumes',
        cluster=opts.ClusterConfig(
            user='cinder', ceph_conf='/etc/ceph/ceph.conf',
            connect_timeout_s=5),
        secret_uuid='457eb676-33da-42ec-9a8c-9293d545c337',
        max_clone_depth=3, layout=model.Layout(8 * MIB),
        max_volume_bytes=100 * GIB)


def test_the_options_of_this_driver_are_read(load: Load) -> None:
    config = opts.get_backend_config(load(CINDER_CONF), 'ssd')
    assert config == opts.BackendConfig(
        name='ssd', pool='ssd',
        cluster=opts.ClusterConfig(cluster_name='fast'),
        concurrent_flattens=1, enable_clone_optimization=True,
        clone_upload_flatten='background', registration_timeout_s=9,
        allow_legacy_locations=True, image_pools=('images', 'images-ssd'),
        image_base_cache=True, base_cache_max_count=3,
        base_cache_max_bytes=7 * GIB,
        upload_store='fast', copy_operations=4, copy_bytes_per_s=100 * MIB,
        verify_copies=True, glance_secure_hash=False,
        glance_hashing_algorithm='sha256', max_volume_bytes=100 * GIB,
        flow_connection='dir:///var/lib/volume-rbd')


def test_backends_of_other_drivers_are_left_alone(load: Load) -> None:
    conf = load(CINDER_CONF)
    assert opts.backend_names(conf) == ['ceph', 'ssd', 'plain']
    for name in ('lvm', 'nfs'):
        with pytest.raises(exception.BackendNotFound):
            opts.get_backend_config(conf, name)


def test_a_backend_without_options_has_the_defaults(load: Load) -> None:
    config = opts.get_backend_config(load(_section('')), 'ceph')
    assert config == opts.BackendConfig(name='ceph', pool='rbd')


def test_the_defaults_of_the_values_are_those_of_the_options() -> None:
    """A BackendConfig made in Python is the one of an empty section."""
    fresh = opts.BackendConfig(name='b', pool='rbd')
    known = {option.name: option.default for option in opts.backend_opts}
    assert fresh.max_clone_depth == known['rbd_max_clone_depth']
    assert fresh.layout == model.Layout(known['rbd_store_chunk_size'] * MIB)
    assert fresh.registration_timeout_s == known['clone_registration_timeout']
    assert fresh.clone_upload_flatten == known['clone_upload_flatten']
    assert fresh.image_base_cache == known['image_base_cache']
    assert (fresh.base_cache_max_count
            == known['image_base_cache_max_count'])
    assert (fresh.base_cache_max_bytes
            == known['image_base_cache_max_gib'] * GIB)
    assert fresh.copy_operations == known['copy_operations']
    assert fresh.glance_secure_hash == known['glance_secure_hash']
    assert (fresh.glance_hashing_algorithm
            == known['glance_hashing_algorithm'])
    assert fresh.cluster.retries == known['rados_connection_retries']
    assert (fresh.cluster.retry_interval_s
            == known['rados_connection_interval'])


def test_a_backend_takes_the_common_flow_connection(load: Load) -> None:
    conf = load('[DEFAULT]\nenabled_backends = a, b\n'
                'flow_connection = dir:///one\n'
                '[a]\n[b]\nflow_connection = dir:///two\n')
    assert opts.get_backend_config(conf, 'a').flow_connection == 'dir:///one'
    assert opts.get_backend_config(conf, 'b').flow_connection == 'dir:///two'


def test_what_a_backend_does_not_set_comes_from_the_backend_defaults(
        load: Load) -> None:
    conf = load('[DEFAULT]\nenabled_backends = a, b\n'
                '[backend_defaults]\nrbd_max_clone_depth = 9\n'
                'rbd_user = common\nrbd_image_pools = images\n'
                '[a]\nrbd_user = own\n[b]\nrbd_max_clone_depth = 5\n')
    a, b = (opts.get_backend_config(conf, name) for name in 'ab')
    assert (a.cluster.user, a.max_clone_depth) == ('own', 9)
    assert a.image_pools == ('images',)
    # What is set to the value that would be the default is set all the same.
    assert (b.cluster.user, b.max_clone_depth) == ('common', 5)


@pytest.mark.parametrize(('text', 'expected'), [
    ('', -1), ('per_volume_gigabytes = -1', -1),
    ('per_volume_gigabytes = 0', 0), ('per_volume_gigabytes = 2', 2)])
def test_the_quota_of_a_volume(load: Load, text: str, expected: int) -> None:
    conf = load(f'[DEFAULT]\nenabled_backends = b\n{text}\n[b]\n')
    limit = opts.get_backend_config(conf, 'b').max_volume_bytes
    assert limit == (None if expected < 0 else expected * GIB)


def test_later_files_go_before_earlier_ones(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / 'a.conf', tmp_path / 'b.conf'
    first.write_text(_section('rbd_pool = one\nrbd_user = u'))
    second.write_text('[ceph]\nrbd_pool = two\n')
    conf = opts.load_config([str(first), str(second)])
    config = opts.get_backend_config(conf, 'ceph')
    assert (config.pool, config.cluster.user) == ('two', 'u')


def test_two_configurations_do_not_share_anything(load: Load) -> None:
    one = load(_section('rbd_pool = one'))
    two = load(_section('rbd_pool = two'))
    assert opts.get_backend_config(one, 'ceph').pool == 'one'
    assert opts.get_backend_config(two, 'ceph').pool == 'two'


def test_the_arguments_of_the_process_are_not_looked_at(
        load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sys.argv', ['x', '--config-file', '/nowhere'])
    assert opts.backend_names(load(_section(''))) == ['ceph']


# -- errors -------------------------------------------------------------------

def test_a_missing_file_is_told(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / 'nowhere.conf')
    with pytest.raises(exception.ConfigurationError) as caught:
        opts.load_config([path])
    assert path in caught.value.message
    assert '--config-file' in caught.value.remedy


@pytest.mark.parametrize('text', [
    'no section here', '[DEFAULT\n', '[DEFAULT]\n= 1\n'])
def test_a_file_that_does_not_parse_is_told(load: Load, text: str) -> None:
    with pytest.raises(exception.ConfigurationError, match=r'cinder\.conf'):
        load(text)


def test_an_unknown_backend_is_told_beside_those_that_are(load: Load
                                                         ) -> None:
    with pytest.raises(exception.BackendNotFound) as caught:
        opts.get_backend_config(load(CINDER_CONF), 'cpeh')
    assert "'cpeh'" in caught.value.message
    assert 'ceph, ssd, plain' in caught.value.message
    assert '--backend' in caught.value.remedy


def test_a_section_that_is_not_enabled_is_no_backend(load: Load) -> None:
    conf = load(_section('') + '[other]\nrbd_pool = x\n')
    with pytest.raises(exception.BackendNotFound):
        opts.get_backend_config(conf, 'other')


@pytest.mark.parametrize('text', ['', '[DEFAULT]\n',
                                  '[DEFAULT]\nenabled_backends =\n'])
def test_no_backend_at_all_is_told(load: Load, text: str) -> None:
    conf = load(text)
    assert opts.backend_names(conf) == []
    with pytest.raises(exception.BackendNotFound, match='none'):
        opts.get_backend_config(conf, 'ceph')


def test_options_that_contradict_each_other_are_refused(load: Load) -> None:
    conf = load(_section('allow_legacy_locations = true'))
    with pytest.raises(exception.ConfigurationError) as caught:
        opts.get_backend_config(conf, 'ceph')
    assert 'allow_legacy_locations' in caught.value.message
    assert 'enable_clone_optimization' in caught.value.message


def test_a_base_cache_without_clones_is_refused(load: Load) -> None:
    conf = load(_section('image_base_cache = true\nrbd_max_clone_depth = 0'))
    with pytest.raises(exception.ConfigurationError,
                       match='image_base_cache'):
        opts.get_backend_config(conf, 'ceph')


@pytest.mark.parametrize('line', [
    'rbd_max_clone_depth = many', 'rbd_max_clone_depth = -1',
    'rbd_store_chunk_size = 0', 'rbd_store_chunk_size = 64',
    'rbd_store_chunk_size = 3', 'rbd_store_chunk_size = 12',
    'image_base_cache_max_count = -1', 'image_base_cache_max_gib = -1',
    'copy_operations = 0', 'copy_operations = 65',
    'clone_upload_flatten = sometimes', 'enable_clone_optimization = maybe',
    'clone_registration_timeout = 0', 'rados_connection_retries = -1',
    'rbd_concurrent_flatten_operations = 0',
    'rbd_pool = $no_such_option',
])
def test_a_wrong_value_is_told_with_its_option_and_backend(load: Load,
                                                           line: str) -> None:
    conf = load(_section(line))
    with pytest.raises(exception.ConfigurationError) as caught:
        opts.get_backend_config(conf, 'ceph')
    assert "'ceph'" in caught.value.message
    named = (line.split(' = ')[0], line.split(' = $')[-1])
    assert any(name in caught.value.message for name in named)


@pytest.mark.parametrize('line', [
    'per_volume_gigabytes = lots', 'per_volume_gigabytes = -2'])
def test_a_wrong_common_value_is_told(load: Load, line: str) -> None:
    conf = load(f'[DEFAULT]\nenabled_backends = b\n{line}\n[b]\n')
    with pytest.raises(exception.ConfigurationError,
                       match='per_volume_gigabytes'):
        opts.get_backend_config(conf, 'b')


@pytest.mark.parametrize('line', [
    'glance_num_retries = often', 'glance_num_retries = -1',
    'glance_request_timeout = 0', 'glance_api_insecure = perhaps',
    'glance_ca_certificates_file = $nowhere'])
def test_a_wrong_value_about_glance_is_told(load: Load, line: str) -> None:
    conf = load(f'[DEFAULT]\n{line}\n')
    with pytest.raises(exception.ConfigurationError,
                       match=line.split(' = ', maxsplit=1)[0]
                       + '|' + line.split('$')[-1]):
        opts.get_glance_config(conf)


# -- frozen -------------------------------------------------------------------

@pytest.mark.parametrize('value', [
    opts.BackendConfig('b', 'rbd'), opts.ClusterConfig(),
    opts.GlanceConfig()], ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_hashable(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 'x')
    assert hash(value) == hash(dataclasses.replace(value))


def test_backends_of_one_cluster_and_user_have_equal_connections(
        load: Load) -> None:
    conf = load('[DEFAULT]\nenabled_backends = a, b, c\n'
                '[a]\nrbd_pool = a\nrbd_user = u\n'
                '[b]\nrbd_pool = b\nrbd_user = u\n'
                '[c]\nrbd_pool = a\nrbd_user = v\n')
    first, second, third = (opts.get_backend_config(conf, name).cluster
                            for name in 'abc')
    assert first == second
    assert first != third


# -- Glance -------------------------------------------------------------------

def test_the_first_glance_server_is_used(load: Load) -> None:
    config = opts.get_glance_config(load(CINDER_CONF))
    assert config == opts.GlanceConfig(endpoint='http://10.0.0.1:9292',
                                       retries=7)


@pytest.mark.parametrize(('servers', 'endpoint'), [
    ('', None), ('10.0.0.1:9292', 'http://10.0.0.1:9292'),
    ('https://glance/', 'https://glance/'),
    ('[::1]:9292', 'http://[::1]:9292')])
def test_a_glance_server_without_a_scheme_is_http(
        load: Load, servers: str, endpoint: str | None) -> None:
    conf = load(f'[DEFAULT]\nglance_api_servers = {servers}\n')
    assert opts.get_glance_config(conf).endpoint == endpoint


def test_the_rest_of_glances_options_is_read(load: Load) -> None:
    conf = load('[DEFAULT]\nglance_request_timeout = 5\n'
                'glance_api_insecure = true\n'
                'glance_ca_certificates_file = /ca.pem\n'
                '[glance]\nregion_name = west\n')
    assert opts.get_glance_config(conf) == opts.GlanceConfig(
        region_name='west', request_timeout_s=5, insecure=True,
        ca_file='/ca.pem')


# -- the sample file ----------------------------------------------------------

def _sample() -> str:
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(['--namespace', 'volume_rbd'], default_config_files=[],
         default_config_dirs=[])
    written = io.StringIO()
    generator.generate(conf, written)
    return written.getvalue()


def test_oslo_configs_generator_writes_every_option_with_its_help() -> None:
    sample = _sample()
    for _, options in opts.list_opts():
        for option in options:
            assert f'\n#{option.name} =' in sample
            assert option.help
    assert '<No help text' not in sample
    assert '<None>' in sample  # an option without a default says so


def test_the_sample_file_with_its_defaults_is_a_configuration(
        tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'sample.conf'
    text = re.sub(r'^#(\w+ = (?!<).*)', r'\1', _sample(),
                  flags=re.MULTILINE)
    path.write_text(text + '[DEFAULT]\nenabled_backends = backend\n')
    config = opts.get_backend_config(opts.load_config([str(path)]), 'backend')
    assert config == opts.BackendConfig(name='backend', pool='rbd')


@pytest.mark.parametrize(('lines', 'word'), [
    ('jobboard = rabbit://user:hunter2@host\n', 'jobboard'),
    ('jobboard = hunter2\n', 'jobboard'),
    ('jobboard = redis://:hunter2@host\nflow_connection = memory\n',
     'flow_connection'),
    ('jobboard = redis://:hunter2@host\nflow_connection = dir:///x\n',
     'flow_connection')])
def test_a_jobboard_that_workers_cannot_use_is_refused_without_its_password(
        load: Load, lines: str, word: str) -> None:
    conf = load(f'[DEFAULT]\nenabled_backends = a\n[a]\n{lines}')
    with pytest.raises(exception.ConfigurationError, match=word) as raised:
        opts.get_backend_config(conf, 'a')
    assert 'hunter2' not in str(raised.value)


def test_secrets_are_marked_so_that_logs_hide_them() -> None:
    """flow_connection holds a database's password, jobboard a server's."""
    for _, options in opts.list_opts():
        for option in options:
            if option.name in ('flow_connection', 'jobboard'):
                assert option.secret
