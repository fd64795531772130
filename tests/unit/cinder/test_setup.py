# SPDX-License-Identifier: Apache-2.0
"""From a cinder.conf to the driver's configuration, with Cinder's own code."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cinder import exception as cinder_exception
from cinder.volume import configuration
from cinder.volume import driver as cinder_driver
from oslo_config import cfg

from volume_rbd import exception
from volume_rbd.cinder import RBDDriver, setup
from volume_rbd.process.server import Hello

Read = Callable[..., Hello]


@pytest.fixture
def conf() -> Iterator[cfg.ConfigOpts]:
    cfg.CONF.reset()
    yield cfg.CONF
    cfg.CONF.reset()
    cfg.CONF.clear()


@pytest.fixture
def write(conf: cfg.ConfigOpts, tmp_path: pathlib.Path
          ) -> Callable[..., str]:
    """Writes options of a section, and those of DEFAULT, and reads them."""
    number = iter(range(100))

    def write(options: str, defaults: str = '') -> str:
        name = f'ceph-{tmp_path.name}-{next(number)}'
        path = tmp_path / 'cinder.conf'
        path.write_text(f'[DEFAULT]\n{defaults}\n[{name}]\n{options}\n')
        conf([], project='cinder', default_config_files=[str(path)],
             default_config_dirs=[])
        return name

    return write


def _facade(name: str) -> Any:
    return RBDDriver(configuration=configuration.Configuration(
        cinder_driver.volume_opts, config_group=name), host='h', db=None)


def _hello(name: str) -> Hello:
    return setup.get_hello(_facade(name).configuration)


def test_the_stock_drivers_options_mean_what_they_meant(
        write: Callable[..., str]) -> None:
    hello = _hello(write(
        'rbd_pool = vols\nrbd_user = cinder\nrbd_ceph_conf = /etc/c.conf\n'
        'rbd_max_clone_depth = 3\nrbd_store_chunk_size = 8\n'
        'rados_connect_timeout = 7\n'
        'rbd_flatten_volume_from_snapshot = true\n'
        'volume_backend_name = x\nimage_volume_cache_enabled = true'))
    backend = hello.backend
    assert (backend.pool, backend.cluster.user, backend.cluster.ceph_conf,
            backend.max_clone_depth, backend.layout.object_size_bytes,
            backend.cluster.connect_timeout_s,
            backend.flatten_volume_from_snapshot) == (
        'vols', 'cinder', '/etc/c.conf', 3, 8 * 1024 ** 2, 7, True)


def test_without_options_the_defaults_are_the_stock_drivers(
        write: Callable[..., str]) -> None:
    from cinder.volume.drivers import rbd
    ours = {option.name: option.default
            for option in RBDDriver.get_driver_options()}
    for option in rbd.RBD_OPTS:
        assert ours[option.name] == option.default, option.name
    assert _hello(write('')).backend.enable_clone_optimization is False


def test_two_backends_have_their_own_settings(
        conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'cinder.conf'
    path.write_text('[backend_defaults]\nrbd_user = cinder\n'
                    '[fast]\nenable_clone_optimization = true\n'
                    '[plain]\nrbd_user = other\n')
    conf([], project='cinder', default_config_files=[str(path)],
         default_config_dirs=[])
    fast, plain = _hello('fast').backend, _hello('plain').backend
    assert (fast.enable_clone_optimization, fast.cluster.user) == (
        True, 'cinder')
    assert (plain.enable_clone_optimization, plain.cluster.user) == (
        False, 'other')


@pytest.mark.parametrize(('options', 'words'), [
    ('rbd_pol = x', 'rbd_pool'),
    ('enable_clone_optimisation = true', 'enable_clone_optimization'),
    ('rbd_store_chunk_size = 3', 'power'),
    ('allow_legacy_locations = true', 'enable_clone_optimization'),
    ('replication_device = backend_id:other', 'later release'),
    ('rbd_secret_uuid = nonsense', 'UUID'),
])
def test_what_cannot_be_meant_is_refused_at_start(
        write: Callable[..., str], options: str, words: str) -> None:
    facade = _facade(write(options))
    with pytest.raises(cinder_exception.InvalidConfigurationValue,
                       match=words):
        facade.do_setup(None)


def test_the_child_is_told_the_same_files(write: Callable[..., str],
                                          tmp_path: pathlib.Path) -> None:
    assert _hello(write('')).files == (str(tmp_path / 'cinder.conf'),)


def test_cinders_words_on_conversion_and_signatures_count(
        write: Callable[..., str]) -> None:
    hello = _hello(write('', 'image_conversion_disable = true\n'
                             'verify_glance_signatures = disabled'))
    assert hello.backend.may_convert is False
    assert hello.backend.verify_signatures == 'off'


def test_a_backend_that_was_not_set_up_says_so(write: Callable[..., str]
                                               ) -> None:
    facade = _facade(write(''))
    with pytest.raises(exception.ClusterUnavailable, match='set up'):
        facade.backend()
