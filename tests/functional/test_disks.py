# SPDX-License-Identifier: Apache-2.0
"""Disks of guests, as client.nova, in the pool vms."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tests.functional import agents as agents_
from tests.functional import content, formats
from tests.functional.agents import POOL, Agents
from tests.functional.cluster import make_user, remove_user
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from volume_rbd import exception, model
from volume_rbd.compute.clean_up import State
from volume_rbd.driver.images import ImageRequest
from volume_rbd.sandbox import Sandbox

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)


@pytest.fixture
def agents(house: House) -> Iterator[Agents]:
    with agents_.opened(house) as made:
        yield made


# -- made from images ---------------------------------------------------------

def test_a_disk_is_a_clone_made_by_who_only_reads_images(agents: Agents
                                                         ) -> None:
    image = agents.house.member.make(DATA)
    disks = agents.get().disks

    result = disks.create(agents.name(), image, 2 * GIB)

    assert (result.strategy, result.bytes_moved) == ('clone', 0)
    assert disks.size(agents.name()) == 2 * GIB
    assert agents.parent() == f'images/{image}'
    assert agents.digest() == DIGEST


def test_an_image_that_lies_elsewhere_is_downloaded(agents: Agents) -> None:
    image = agents.house.member.make(DATA, 'file')

    result = agents.get().disks.create(agents.name(), image)

    assert (result.strategy, result.reason) == ('download', 'not_rbd')
    assert agents.digest() == DIGEST


def test_the_disks_are_in_another_cluster(agents: Agents,
                                          other_cluster: Sandbox) -> None:
    image = agents.house.member.make(DATA)
    agent = agents.get(
        images_rbd_ceph_conf=other_cluster.env()['CEPH_CONF'])

    result = agent.disks.create(agents.name(), image)

    assert (result.strategy, result.reason) == ('download', 'other_cluster')
    assert [gone.state for gone in agent.disks.clean_up(
        agents.instance)] == [State.REMOVED]


def test_the_snapshot_of_the_location_is_missing(agents: Agents) -> None:
    """Any other location is tried; Glance itself would not find it."""
    house = agents.house
    image = house.member.make(DATA)
    [url] = house.service.locations(image)
    house.replace_location(image, url.replace('/snap', '/gone'))
    try:
        decided = agents.get().disks.plan_create(agents.name(), image)
    finally:
        house.replace_location(image, url)
    assert (decided.strategy, decided.reason) == (
        'download', 'missing_snapshot')


def test_by_policy_a_disk_is_a_clone_or_nothing(agents: Agents) -> None:
    disks = agents.get(images_rbd_must_clone=True).disks
    image = agents.house.member.make(DATA, 'file')

    with agents.house.nothing_changes(), pytest.raises(
            exception.NotCloneable, match='does not lie in RBD'):
        disks.create(agents.name(), image)

    assert disks.create(
        agents.name(), agents.house.member.make(DATA)).strategy == 'clone'


def test_a_disk_is_not_smaller_than_its_image(agents: Agents) -> None:
    image = agents.house.member.make(DATA, min_disk=2)
    with agents.house.nothing_changes(), pytest.raises(
            exception.InvalidSize):
        agents.get().disks.create(agents.name(), image, GIB)


@pytest.mark.parametrize('may_write', [False, True])
def test_an_image_that_is_not_raw_is_converted(
        agents: Agents, writer: str, tmp_path: Path, may_write: bool
        ) -> None:
    """Where it lies by who may write there, which is what qemu wants; else
    from a clone of it."""
    data = formats.make(tmp_path, DATA, 'qcow2')
    image = agents.house.member.make(data, disk_format='qcow2')
    disks = agents.get(rbd_user=writer if may_write else 'nova').disks
    decided = disks.plan_create(agents.name(), image)
    assert decided.source is not None
    assert decided.stages_clone is not may_write

    result = disks.create(agents.name(), image)

    assert (result.strategy, result.reason) == ('convert', 'not_raw')
    assert agents.digest() == DIGEST


def test_an_unsigned_image_is_refused_where_signatures_are_required(
        agents: Agents) -> None:
    image = agents.house.member.make(DATA)
    agent = agents.get(
        sections={'glance': {'verify_glance_signatures': True}})
    with agents.house.nothing_changes(), pytest.raises(
            exception.SignatureInvalid):
        agent.disks.create(agents.name(), image)


# -- an image that is a clone of a volume -------------------------------------

@pytest.fixture
def cloned_image(agents: Agents) -> str:
    """An image whose data is a volume's, in the pool volumes."""
    house = agents.house
    volume = house.volume(DATA, 8 * MIB)
    image, result = house.upload(volume, driver=house.driver())
    assert result.strategy == 'clone'
    assert house.cluster.parent('images', image) == f'volumes/{volume}'
    return image


def test_who_may_read_volumes_clones_the_clone_of_one(
        agents: Agents, cloned_image: str) -> None:
    result = agents.get().disks.create(agents.name(), cloned_image)

    assert result.strategy == 'clone'
    assert agents.digest() == DIGEST


def test_who_may_not_is_told_which_cap_is_missing(
        agents: Agents, cloned_image: str) -> None:
    with _nova_without_volumes(agents.house):
        agent = agents.get()
        agent.driver.cluster.close()  # a connection keeps its caps
        result = agent.disks.create(agents.name(), cloned_image)
        agent.driver.cluster.close()

    assert (result.strategy, result.reason) == (
        'download', 'snapshot_denied')
    assert ('client.nova needs the cap "profile rbd-read-only pool=volumes"'
            in result.sentence)
    assert agents.digest() == DIGEST


@contextlib.contextmanager
def _nova_without_volumes(house: House) -> Iterator[None]:
    house.sandbox.set_caps(nova_reads_volumes=False)
    try:
        yield
    finally:
        house.sandbox.set_caps(nova_reads_volumes=True)


# -- copied by Glance ---------------------------------------------------------

def test_an_image_is_copied_to_where_it_can_be_cloned(agents: Agents) -> None:
    """Then it is cloned, and so by everybody who comes later."""
    image = agents.house.member.make(DATA, 'file')
    agent = agents.get(role='admin', images_rbd_glance_store_name='rbd',
                       images_rbd_glance_copy_poll_interval=1,
                       images_rbd_must_clone=True)

    result = agent.disks.create(agents.name(), image)

    assert result.strategy == 'clone'
    assert result.values['copied_to_store'] == 'rbd'
    assert agents.digest() == DIGEST
    again = agent.disks.create(agents.name('disk.2'), image)
    assert again.strategy == 'clone'
    assert 'copied_to_store' not in again.values


def test_two_agents_that_ask_at_once_wait_for_one_copy(agents: Agents
                                                       ) -> None:
    image = agents.house.member.make(DATA, 'file')
    options: dict[str, Any] = {
        'role': 'admin', 'images_rbd_glance_store_name': 'rbd',
        'images_rbd_must_clone': True}
    both = [agents.get(**options).disks for _ in range(2)]

    with futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(
            lambda number: both[number].create(
                agents.name(f'disk.{number}'), image), range(2)))

    assert [result.strategy for result in results] == ['clone', 'clone']
    assert sorted(agents.house.member.get(image)['stores'].split(',')) == [
        'file', 'rbd']


def test_a_copy_that_glance_cannot_make_is_an_error(agents: Agents) -> None:
    """The file behind the image is gone."""
    house = agents.house
    image = house.member.make(DATA, 'file')
    path = Path(house.sandbox.folder) / 'glance' / 'file' / image
    away = path.rename(house.folder / image)
    agent = agents.get(role='admin', images_rbd_glance_store_name='rbd',
                       images_rbd_must_clone=True,
                       images_rbd_glance_copy_timeout=60)
    try:
        with pytest.raises(exception.ImageNotCopied, match=image):
            agent.disks.create(agents.name(), image)
        assert not agent.disks.exists(agents.name())
    finally:
        shutil.move(away, path)
    result = agent.disks.create(agents.name(), image)
    assert result.values['copied_to_store'] == 'rbd'


def test_who_may_not_have_it_copied_is_told_so(agents: Agents) -> None:
    image = agents.house.member.make(DATA, 'file')
    options: dict[str, Any] = {'images_rbd_glance_store_name': 'rbd'}

    with agents.house.nothing_changes(), pytest.raises(
            exception.GlanceForbidden, match='copy') as caught:
        agents.get(images_rbd_must_clone=True, **options).disks.create(
            agents.name(), image)
    assert 'copy_image' in caught.value.remedy

    result = agents.get(**options).disks.create(agents.name(), image)
    assert result.strategy == 'download'
    assert result.values['not_copied'] in result.sentence
    assert agents.digest() == DIGEST


def test_a_store_that_is_not_there_is_named(agents: Agents) -> None:
    image = agents.house.member.make(DATA, 'file')
    agent = agents.get(images_rbd_glance_store_name='nowhere',
                       images_rbd_must_clone=True)
    with pytest.raises(exception.StoreNotFound, match='nowhere'):
        agent.disks.create(agents.name(), image)


# -- how they lie -------------------------------------------------------------

@pytest.mark.parametrize('way', ['blank', 'clone', 'copy', 'download'])
def test_disks_are_striped_in_a_pool_of_their_own(agents: Agents, way: str
                                                  ) -> None:
    with _pool_for_data(agents.house) as (user, pool):
        agent = agents.get(
            rbd_user=user, images_rbd_data_pool=pool,
            images_rbd_stripe_unit=64, images_rbd_stripe_count=4,
            rbd_flatten_volume_from_snapshot=way == 'copy')
        disks, name = agent.disks, agents.name()
        if way == 'blank':
            disks.create_blank(name, 8 * MIB)
            agents.house.cluster.write(POOL, name, DATA)
        else:
            image = agents.house.member.make(
                DATA, 'file' if way == 'download' else None)
            assert disks.create(name, image).strategy == way
        with agent.driver.cluster.pool(POOL).open(name) as opened:
            assert opened.layout == model.Layout(
                4 * MIB, 64 * 1024, 4, pool)
        assert agents.digest() == DIGEST
        assert disks.capacity().pool == pool
        disks.clean_up(agents.name())
        agent.close()


@contextlib.contextmanager
def _pool_for_data(house: House) -> Iterator[tuple[str, str]]:
    pool = f'data-{uuid.uuid4().hex[:8]}'
    house.cluster.ceph('osd', 'pool', 'create', pool, '8')
    house.cluster.ceph('osd', 'pool', 'application', 'enable', pool, 'rbd')
    deadline = time.monotonic() + 60
    while pool not in house.cluster.ceph('df'):  # some seconds later
        assert time.monotonic() < deadline
        time.sleep(0.5)
    entity = make_user(house.cluster, f'nova-{pool}',
                       f'profile rbd pool=vms, profile rbd pool={pool}, '
                       'profile rbd-read-only pool=images')
    try:
        yield entity.removeprefix('client.'), pool
    finally:
        remove_user(house.cluster, entity)
        house.cluster.ceph('osd', 'pool', 'rm', pool, pool,
                           '--yes-i-really-really-mean-it')


def test_a_data_pool_without_the_cap_is_told_at_once(agents: Agents) -> None:
    """librbd would make the disk; its guest could not write."""
    disks = agents.get(images_rbd_data_pool='volumes').disks
    with agents.house.nothing_changes(), pytest.raises(
            exception.CephPermissionDenied, match='volumes') as caught:
        disks.create_blank(agents.name(), MIB)
    assert 'profile rbd pool=volumes' in caught.value.remedy


def test_a_data_pool_that_is_not_there_is_named(agents: Agents) -> None:
    disks = agents.get(images_rbd_data_pool='nowhere').disks
    for make in (disks.check, disks.capacity,
                 lambda: disks.create_blank(agents.name(), MIB)):
        with pytest.raises(exception.PoolNotFound, match='nowhere'):
            make()


# -- the rest of their life ---------------------------------------------------

def test_a_disk_grows_and_goes_back_to_its_snapshot(agents: Agents) -> None:
    disks, name = agents.get().disks, agents.name()
    disks.create(name, agents.house.member.make(DATA))
    disks.snapshots.create(name, 'nova-resize')
    agents.house.cluster.write(POOL, name, b'a guest wrote this')
    disks.resize(name, 3 * GIB)
    with pytest.raises(exception.InvalidSize):
        disks.resize(name, 2 * GIB)
    assert disks.size(name) == 3 * GIB

    with pytest.raises(exception.SnapshotNotFound):
        disks.rollback(name, 'never')
    disks.rollback(name, 'nova-resize')

    assert disks.size(name) == GIB
    assert agents.digest() == DIGEST


def test_the_room_is_what_the_pool_has(agents: Agents) -> None:
    found = agents.get().disks.capacity()
    assert found.pool == POOL
    assert 0 < found.free_bytes <= found.total_bytes
    usage = agents.get().driver.cluster.pool(POOL).usage()
    assert usage.max_available_bytes == pytest.approx(found.free_bytes,
                                                      rel=0.05)


def test_the_disks_of_an_instance_go_and_open_ones_stay(agents: Agents
                                                        ) -> None:
    disks = agents.get().disks
    for disk in ('disk', 'disk.swap', 'disk.eph0'):
        disks.create_blank(agents.name(disk), MIB)
    disks.snapshots.create(agents.name('disk.eph0'), 'before')
    with agents.house.cluster.open(POOL, agents.name()):
        gone = disks.clean_up(f'{agents.instance}_', timeout_s=0)
    assert {each.name: each.state for each in gone} == {
        agents.name('disk'): State.BUSY,
        agents.name('disk.swap'): State.REMOVED,
        agents.name('disk.eph0'): State.HAS_SNAPSHOTS}
    assert disks.names(agents.instance) == [agents.name('disk'),
                                            agents.name('disk.eph0')]


# -- snapshots as images ------------------------------------------------------

@pytest.fixture
def writer(house: House) -> Iterator[str]:
    """A cephx user for direct snapshots: nova, with write on images."""
    entity = make_user(house.cluster, f'nova-{uuid.uuid4().hex[:8]}',
                       'profile rbd pool=vms, profile rbd pool=images')
    yield entity.removeprefix('client.')
    remove_user(house.cluster, entity)


def _upload(agents: Agents, **options: Any) -> tuple[str, Any]:
    disks, name = agents.get(**options).disks, agents.name()
    disks.create(name, agents.house.member.make(DATA))
    agents.house.cluster.write(POOL, name, b'a guest wrote this')
    result = disks.snapshot_to_image(name, 'snapshot')
    assert disks.snapshots.list(name) == []
    return str(result.values['image_id']), result


def test_a_snapshot_of_a_disk_is_an_image_of_its_own(agents: Agents,
                                                     writer: str) -> None:
    image, result = _upload(agents, rbd_user=writer)

    assert result.strategy == 'clone'
    assert agents.house.cluster.parent('images', image) is None
    assert agents.house.member.digest(image) == agents.digest()
    second = agents.get().disks.create(agents.name('disk.2'), image)
    assert second.strategy == 'clone'
    assert agents.digest('disk.2') == agents.digest()


def test_without_write_on_images_its_bytes_go_through_glance(agents: Agents
                                                             ) -> None:
    image, result = _upload(agents)

    assert (result.strategy, result.reason) == ('upload', 'clone_denied')
    assert agents.house.member.digest(image) == agents.digest()


def test_an_image_said_to_be_qcow2_is_qcow2(agents: Agents) -> None:
    image, result = _upload(agents, snapshot_image_format='qcow2')

    assert result.strategy == 'convert'
    found = agents.house.member.get(image)
    assert found['disk_format'] == 'qcow2'
    answer = agents.house.member.request('GET', f'/images/{image}/file')
    assert answer.content[:4] == b'QFI\xfb'


def test_a_record_that_the_agent_made_says_the_format(agents: Agents,
                                                      writer: str) -> None:
    disks, name = agents.get(rbd_user=writer).disks, agents.name()
    disks.create_blank(name, 8 * MIB)
    record = agents.house.member.create(disk_format='qcow2')

    result = disks.snapshot_to_image(name, ImageRequest(
        'snapshot', image_id=record, disk_format='raw'))

    assert result.strategy == 'convert'
    answer = agents.house.member.request('GET', f'/images/{record}/file')
    assert answer.content[:4] == b'QFI\xfb'


def test_a_snapshot_that_cannot_be_registered_leaves_nothing(
        agents: Agents, writer: str) -> None:
    disks, name = agents.get(rbd_user=writer).disks, agents.name()
    disks.create_blank(name, 8 * MIB)
    with agents.house.nothing_changes(), pytest.raises(
            exception.StoreNotFound):
        disks.snapshot_to_image(name, ImageRequest('x', store_id='nowhere'))


# -- other hosts, other processes ---------------------------------------------

def test_another_host_has_the_same_disks(agents: Agents) -> None:
    """So a guest whose host is gone starts elsewhere, as it was."""
    first = agents.get()
    first.disks.create(agents.name(), agents.house.member.make(DATA))
    first.close()

    other = agents.get()
    assert other.disks.names(agents.instance) == [agents.name()]
    other.disks.resize(agents.name(), 2 * GIB)
    assert agents.digest() == DIGEST


def test_the_commands_take_a_nova_conf(agents: Agents) -> None:
    house, name = agents.house, agents.name()
    image = house.member.make(DATA)
    config = house.config(agents.sections())

    def run(*words: str) -> Any:
        return house.run_json('disk', *words, config=config)

    made = run('create', name, '--image', image, '--size', '1')
    assert (made['strategy'], made['size_gib']) == ('clone', 1)
    assert run('show', name)['parent'] == f'images/{image}@snap'
    assert run('resize', name, '2')['size_gib'] == 2
    assert run('capacity')['pool'] == POOL
    uploaded = run('snapshot', name, '--image-name', 'mine')
    assert (uploaded['strategy'], uploaded['reason']) == (
        'upload', 'clone_denied')
    [row] = run('list', '--filter', agents.instance)
    assert (row['name'], row['is_open']) == (name, False)
    wanted = ('clean-up', '--filter', f'{agents.instance}_')
    assert [row['state'] for row in run(*wanted)] == ['found']
    assert [row['state'] for row in run(*wanted, '--yes')] == ['removed']
    assert run('list', '--filter', agents.instance) == []


# -- a guest that moves -------------------------------------------------------

def test_a_moving_guest_is_given_the_live_monitors(agents: Agents) -> None:
    agent = agents.get()
    agent.disks.create_blank(agents.name(), MIB)
    other = ("<disk type='network'><source protocol='rbd' name='vms/x'>"
             "<host name='192.0.2.1' port='6789'/><auth username='n'>"
             f"<secret type='ceph' uuid='{uuid.uuid4()}'/></auth></source>"
             "</disk>")
    guest = ("<domain><devices><disk type='network'><source protocol='rbd' "
             f"name='{POOL}/{agents.name()}'>"
             "<host name='192.0.2.1' port='6789'/></source></disk>"
             f"{other}</devices></domain>")

    done = agent.disks.migrate_xml(guest)

    [address] = agent.driver.cluster.monitors()
    host, port = address.rsplit(':', 1)
    assert done == guest.replace(
        "<host name='192.0.2.1' port='6789'/>",
        f"<host name='{host}' port='{port}'/>", 1)
