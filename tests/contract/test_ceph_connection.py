# SPDX-License-Identifier: Apache-2.0
"""Connections: shared, refused, timed out, lost and found again."""

import base64
import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest

from tests.contract.ceph_fixtures import Ceph
from volume_rbd import exception
from volume_rbd.ceph import bindings, connection

MIB = 1024 ** 2


def test_a_connection_knows_cluster_user_pools_and_monitors(ceph):
    cluster = ceph.world.cluster('nova')

    assert cluster.user == 'nova'
    assert len(cluster.fsid) == 36
    assert {'volumes', 'images', 'vms'} <= set(cluster.pools())
    for monitor in cluster.monitors():
        host, port = monitor.rsplit(':', 1)
        assert host
        assert port.isdigit()


def test_all_threads_share_one_connection(ceph):
    addresses = []

    def use():
        ceph.cluster.pool('volumes').images()
        addresses.append(ceph.cluster.address)

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(addresses) == 16
    assert len(set(addresses)) == 1


def test_a_closed_connection_opens_again_when_it_is_used(ceph):
    name = ceph.new()
    before = ceph.cluster.address

    ceph.cluster.close()

    assert ceph.volumes.has_image(name)
    assert ceph.cluster.address != before


def test_closing_lets_those_finish_who_have_an_image_open(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        ceph.cluster.close()
        image.write(b'data', 0)
        image.create_snapshot('s')

    with ceph.volumes.open(name, snapshot='s') as image:
        assert image.read(0, 4) == b'data'


def test_a_lost_connection_is_replaced(ceph):
    name = ceph.new()
    before = ceph.cluster.address

    ceph.world.lose(ceph.cluster)

    with contextlib.suppress(exception.ClusterUnavailable):
        ceph.volumes.images()  # the one call that may notice it
    assert ceph.volumes.has_image(name)
    assert ceph.cluster.address != before


def test_an_image_opened_before_the_loss_says_so(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'kept', 0)
        image.flush()
        ceph.world.lose(ceph.cluster)
        for action in (lambda: image.read(0, 4),
                       lambda: image.aio_read(0, 4).wait(),
                       lambda: image.aio_write(b'lost', 0).wait(),
                       lambda: image.create_snapshot('s')):
            with pytest.raises(exception.ClusterUnavailable):
                action()

    with ceph.volumes.open(name) as image:
        assert image.read(0, 4) == b'kept'
        assert image.snapshots() == []


def test_a_private_connection_does_not_come_back(ceph):
    name = ceph.new()
    private = ceph.world.cluster(private=True)
    private.pool('volumes').check()
    assert private.address != ceph.cluster.address

    ceph.world.lose(private)

    for _ in range(3):
        with pytest.raises(exception.ClusterUnavailable):
            private.pool('volumes').rename(name, ceph.name())
    assert ceph.volumes.has_image(name)


def test_who_is_blocklisted_does_nothing_more(ceph):
    name = ceph.new()
    private = ceph.cluster.private()
    with contextlib.suppress(exception.ClusterUnavailable), \
            private.pool('volumes').open(name) as theirs:
        theirs.write(b'theirs', 0)

        ceph.cluster.blocklist(private.address)

        with ceph.volumes.open(name) as image:
            assert image.watchers() == []
            image.write(b'ours', 6)
        with pytest.raises(exception.ClusterUnavailable):
            theirs.write(b'late', 0)
        with pytest.raises(exception.ClusterUnavailable):
            private.records('volumes', ceph.name()).write('one', {'a': '1'})
    with ceph.volumes.open(name) as image:
        assert image.read(0, 10) == b'theirsours'


def test_a_private_connection_is_another_one(ceph):
    private = ceph.cluster.private()

    assert private.fsid == ceph.cluster.fsid
    assert private.user == ceph.cluster.user
    assert private.address != ceph.cluster.address
    assert private.address == private.address
    private.close()


def test_only_who_has_the_key_signs_so(ceph):
    signed = ceph.cluster.sign('text')

    assert ceph.cluster.private().sign('text') == signed
    assert ceph.cluster.sign('texts') != signed
    assert ceph.world.cluster('nova').sign('text') != signed


def test_each_user_has_a_key_that_libvirt_takes(ceph):
    key = ceph.cluster.key()

    assert base64.b64decode(key, validate=True)
    assert ceph.cluster.private().key() == key
    assert ceph.world.cluster('nova').key() != key


def test_a_closed_private_connection_stays_closed(ceph):
    private = ceph.cluster.private()
    private.pool('volumes').check()

    private.close()

    with pytest.raises(exception.ClusterUnavailable):
        private.pool('volumes').check()


def test_monitors_that_do_not_answer_make_it_unavailable(ceph):
    begin = time.monotonic()

    with pytest.raises(exception.ClusterUnavailable):
        ceph.world.unreachable().pool('volumes').check()

    assert time.monotonic() - begin < 5


def test_an_unknown_user_is_said_at_once(ceph):
    begin = time.monotonic()

    with pytest.raises(exception.ConfigurationError, match='nobody') as info:
        ceph.world.cluster('nobody').pool('volumes').check()

    assert 'keyring' in str(info.value)
    assert time.monotonic() - begin < 2


# -- what only a real cluster can show -------------------------------------
@pytest.mark.real
def test_equal_configurations_share_one_connection(real_world):
    one = connection.connect(real_world.config())

    assert connection.connect(real_world.config()) is one
    assert connection.connect(real_world.config('glance')) is not one


@pytest.mark.real
def test_an_attempt_that_failed_is_repeated_as_configured(real_world):
    config = real_world.config(
        connect_timeout_s=1, retries=2, retry_interval_s=0.1)
    cluster = connection.RadosCluster(
        config, overrides={'mon_host': '127.0.0.1:1'})
    begin = time.monotonic()

    with pytest.raises(exception.ClusterUnavailable, match='within 1 s'):
        _ = cluster.fsid

    assert 3 <= time.monotonic() - begin < 6


@pytest.mark.real
def test_threads_wait_for_one_attempt_not_for_one_each(real_world):
    cluster = real_world.unreachable()
    failures = []

    def use():
        try:
            _ = cluster.fsid
        except exception.ClusterUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(failures) == 8
    assert time.monotonic() - begin < 4


@pytest.mark.real
@pytest.mark.parametrize(('text', 'kind', 'said'), [
    ('[client.cinder]\n key = AQDJwQBr7YVcMRAA+5jA6CYR7tBDd2z9XrnGhw==\n',
     exception.CephPermissionDenied, 'refused client.cinder'),
    ('[client.other]\n key = AQDJwQBr7YVcMRAA+5jA6CYR7tBDd2z9XrnGhw==\n',
     exception.CephPermissionDenied, 'refused client.cinder'),
    ('garbage', exception.ConfigurationError, 'malformed')])
def test_a_wrong_keyring_is_said_at_once(
        real_world, tmp_path, text, kind, said):
    keyring = tmp_path / 'keyring'
    keyring.write_text(text)
    cluster = connection.RadosCluster(
        real_world.config(retries=5),
        overrides={'keyring': str(keyring)})
    begin = time.monotonic()

    with pytest.raises(kind, match=said) as caught:
        _ = cluster.fsid

    assert time.monotonic() - begin < 2
    assert caught.value.remedy
    assert 'AQDJ' not in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize('text', [None, '[global\nbroken', '[global]\n'])
def test_a_wrong_ceph_conf_is_said_at_once(real_world, tmp_path, text):
    path = tmp_path / 'ceph.conf'
    if text is not None:
        path.write_text(text)
    config = real_world.config(ceph_conf=str(path), retries=5)
    begin = time.monotonic()

    with pytest.raises(exception.ConfigurationError, match=str(path)):
        _ = connection.RadosCluster(config).fsid

    assert time.monotonic() - begin < 2


_OPEN_AND_CLOSE = """
import sys, threading, time
from volume_rbd.ceph import connection
from volume_rbd.opts import ClusterConfig

path, name, seconds = sys.argv[1:]
cluster = connection.connect(ClusterConfig(user='admin', ceph_conf=path))
pool = cluster.pool('volumes')
end = time.monotonic() + float(seconds)
opened = []


def work():
    while time.monotonic() < end:
        with pool.open(name, read_only=True) as image:
            opened.append(image.id)


threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(opened))
"""


@pytest.mark.real
def test_what_is_closed_as_soon_as_it_is_open_does_not_crash(
        real_world):
    """A clone does within some seconds (16.2) if nothing is waited for, where
    freed memory is filled as here, so that whoever still uses it is found.
    """
    ceph = Ceph(real_world)
    clone = ceph.new_clone(ceph.new_parent(), ceph.volumes)

    done = subprocess.run(
        [sys.executable, '-c', _OPEN_AND_CLOSE, real_world.ceph_conf,
         clone, '10'], capture_output=True, text=True, timeout=120,
        env={**os.environ, 'MALLOC_PERTURB_': '165'})

    ceph.clean_up()
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0, done.stderr[-2000:]


@pytest.mark.real
def test_a_pool_that_is_made_again_is_found_again(real_world):
    admin = bindings.rados().Rados(
        conffile=real_world.ceph_conf, rados_id='admin')
    admin.connect()
    cluster = real_world.cluster('admin')
    name = 'test-made-again'
    try:
        admin.create_pool(name)
        pool = cluster.pool(name)
        pool.create('x', MIB)
        admin.delete_pool(name)
        with pytest.raises(exception.PoolNotFound):
            _wait_until_unknown(pool)
        admin.create_pool(name)
        pool.create('y', MIB)
        assert [image.name for image in pool.images()] == ['y']
    finally:
        admin.delete_pool(name)
        admin.shutdown()


def _wait_until_unknown(pool):
    for _ in range(50):
        pool.check()
        time.sleep(0.1)
