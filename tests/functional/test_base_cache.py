# SPDX-License-Identifier: Apache-2.0
"""The cache of raw bases on the real cluster, across processes too."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.functional import content, formats
from tests.functional.content import MIB
from tests.functional.house import PROGRAM, House
from tests.functional.steps import Steps
from volume_rbd import exception
from volume_rbd.ceph import base
from volume_rbd.driver import RBDDriver

ON = {'optimized': {'image_base_cache': 'true'}}
STORES = pytest.mark.parametrize('store', ['rbd', 'file'])


@pytest.fixture
def driver(house: House) -> Iterator[RBDDriver]:
    before = set(house.cluster.names('volumes'))
    made = house.driver(**ON)
    yield made
    # As their owners would, and then the operator.
    for name in set(house.cluster.names('volumes')) - before:
        if not name.startswith('volume_rbd.'):
            made.volumes.delete(name)
    for name in set(house.cluster.names('volumes')) - before:
        if name.startswith(base.PREFIX):
            house.service.delete(name.removeprefix(base.PREFIX))
    made.reclaimer.purge()


def _bases(house: House) -> list[str]:
    return [name for name in house.cluster.names('volumes')
            if name.startswith('volume_rbd.')]


@STORES
def test_the_first_create_converts_and_the_next_ones_clone(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path, store: str
        ) -> None:
    disk = content.sparse_bytes(24 * MIB)
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'), store,
                              disk_format='qcow2')
    name, first = house.create(image, driver=driver)
    other, again = house.create(image, driver=driver)

    assert (first.strategy, first.reason) == ('convert', 'not_raw')
    assert (again.strategy, again.reason) == ('clone', 'base_cached')
    assert _bases(house) == [base.base_name(image)]
    for each in (name, other):
        assert house.cluster.digest('volumes', each) == \
            content.digest_of_bytes(disk)
    # What one writes the other does not see.
    house.cluster.write('volumes', name, b'mine')
    assert house.cluster.digest('volumes', other) == \
        content.digest_of_bytes(disk)


def test_it_goes_with_the_image_and_its_last_clone(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    disk = content.sparse_bytes(8 * MIB)
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'),
                              disk_format='qcow2')
    name, _ = house.create(image, driver=driver)
    house.service.delete(image)
    driver.reclaimer.purge()
    assert _bases(house) == [base.base_name(image)]
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)

    driver.volumes.delete(name)
    driver.reclaimer.wait()
    rows = house.run_json('--backend', 'optimized', 'reclaim', role='service',
                          overrides=ON)
    assert ('unused_base', base.base_name(image)) in [
        (row['what'], row['name']) for row in rows]
    driver.reclaimer.purge_due()
    driver.reclaimer.wait()
    assert _bases(house) == []


def test_the_oldest_unused_one_makes_room(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    small = house.driver(optimized={'image_base_cache': 'true',
                                    'image_base_cache_max_count': 1})
    file = formats.make(tmp_path, content.sparse_bytes(8 * MIB), 'qcow2')
    first, second = (house.member.make(file, disk_format='qcow2')
                     for _ in range(2))
    name, _ = house.create(first, driver=small)
    other, result = house.create(second, driver=small)
    assert result.strategy == 'convert'
    assert house.cluster.parent('volumes', other) is None
    assert _bases(house) == [base.base_name(first)]

    small.volumes.delete(name)
    small.reclaimer.wait()  # until then the base has a clone
    house.create(second, driver=small)
    small.reclaimer.wait()
    assert _bases(house) == [base.base_name(second)]


def _start(house: House, image: str, name: str, log: pathlib.Path
           ) -> subprocess.Popen[str]:
    with log.open('w') as stream:
        return subprocess.Popen(
            [PROGRAM, '--backend', 'optimized', 'create', name, '--image',
             image], text=True, stdout=subprocess.DEVNULL, stderr=stream,
            env=house.environ(overrides=ON))


def test_two_processes_convert_once(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    disk = content.random_bytes(256 * MIB)
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'),
                              disk_format='qcow2')
    logs = [tmp_path / f'{number}.log' for number in range(3)]
    children = [_start(house, image, f'volume-at-once-{number}', log)
                for number, log in enumerate(logs)]
    for child in children:
        assert child.wait(120) == 0
    converted = [log for log in logs
                 if 'converting the image' in log.read_text()]
    assert len(converted) == 1, [log.read_text() for log in logs]
    for number in range(3):
        assert house.cluster.digest('volumes', f'volume-at-once-{number}') \
            == content.digest_of_bytes(disk)


def test_one_that_is_killed_is_done_anew(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    disk = content.random_bytes(300 * MIB)
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'),
                              disk_format='qcow2')
    log = tmp_path / 'killed.log'
    child = _start(house, image, 'volume-killed', log)
    deadline = time.monotonic() + 60
    while ('converting the image' not in log.read_text()
           and time.monotonic() < deadline):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert base.making_name(image) in _bases(house)

    # Its watch lasts up to half a minute; that is waited for.
    name, result = house.create(image, driver=driver)
    assert result.strategy == 'convert'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)
    assert base.making_name(image) not in _bases(house)
    with contextlib.suppress(exception.ImageNotFound):
        driver.volumes.delete('volume-killed')


def test_the_second_create_costs_what_a_clone_of_a_raw_image_costs(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    disk = content.sparse_bytes(64 * MIB)
    raw = house.member.make(disk)
    packed = house.member.make(formats.make(tmp_path, disk, 'qcow2'),
                               disk_format='qcow2')
    house.create(packed, driver=driver)
    seconds: dict[str, list[float]] = {raw: [], packed: []}
    for _ in range(10):
        for image, measured in seconds.items():
            started = time.monotonic()
            house.create(image, driver=driver)
            measured.append(time.monotonic() - started)
    of_raw, of_base = (sorted(seconds[image])[5] for image in (raw, packed))
    print(f'raw image {of_raw:.3f} s, cached base {of_base:.3f} s')
    # Room for noise: it is about the same, and not a conversion.
    assert of_base < 2 * of_raw


def test_a_cancelled_wait_ends(house: House, driver: RBDDriver,
                               tmp_path: pathlib.Path) -> None:
    image = house.member.make(formats.make(
        tmp_path, content.sparse_bytes(8 * MIB), 'qcow2'),
        disk_format='qcow2')
    pool = driver.cluster.pool('volumes')
    pool.create(base.making_name(image), 0)
    report = Steps('waiting for who converts the image')
    report._action = report.cancel
    with pool.open(base.making_name(image)), pytest.raises(
            exception.Cancelled):
        house.create(image, driver=driver, report=report)
    pool.remove(base.making_name(image))


# -- whose it is --------------------------------------------------------------

@STORES
def test_anothers_private_image_gives_no_clone_of_its_base(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path, store: str
        ) -> None:
    image = house.member.make(formats.make(
        tmp_path, content.sparse_bytes(8 * MIB), 'qcow2'), store,
        disk_format='qcow2')
    house.create(image, driver=driver)

    with house.nothing_changes(), pytest.raises(
            exception.GlanceImageNotFound):
        house.create(image, driver=house.driver(role='other', **ON))


@pytest.fixture
def strict_glance(house: House, tmp_path: pathlib.Path) -> Iterator[None]:
    """A Glance whose images only their own project may download."""
    policy = tmp_path / 'policy.yaml'
    policy.write_text(
        '"download_image": "role:admin or project_id:%(project_id)s"\n')
    house.sandbox.configure_glance({
        'oslo_policy': {'policy_file': str(policy)}})
    yield
    house.sandbox.configure_glance({})


@pytest.mark.usefixtures('strict_glance')
def test_who_may_see_an_image_and_not_download_it_gets_no_clone_of_its_base(
        house: House, driver: RBDDriver, tmp_path: pathlib.Path) -> None:
    """But where a clone of a raw image would be had as well: then its base
    is no more than that."""
    disk = content.sparse_bytes(8 * MIB)
    file = formats.make(tmp_path, disk, 'qcow2')
    images = {store: house.member.make(
        file, store, disk_format='qcow2', visibility='community')
        for store in ('rbd', 'file')}
    theirs = house.driver(role='other', **ON)
    # Without a base there is nothing to be had either.
    with house.nothing_changes(), pytest.raises(exception.GlanceForbidden):
        house.create(images['file'], driver=theirs)
    for image in images.values():
        house.create(image, driver=driver)

    with house.nothing_changes(), pytest.raises(exception.GlanceForbidden):
        house.create(images['file'], driver=theirs)

    name, result = house.create(images['rbd'], driver=theirs)
    assert (result.strategy, result.reason) == ('clone', 'base_cached')
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)
    _, again = house.create(images['file'], driver=driver)
    assert (again.strategy, again.reason) == ('clone', 'base_cached')
