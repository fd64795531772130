# SPDX-License-Identifier: Apache-2.0
"""The limits of a volume."""

from __future__ import annotations

import logging

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import lineage, qos
from volume_rbd.model import VolumeSpec

ALL = {
    'total_iops_sec': 'conf_rbd_qos_iops_limit',
    'read_iops_sec': 'conf_rbd_qos_read_iops_limit',
    'write_iops_sec': 'conf_rbd_qos_write_iops_limit',
    'total_bytes_sec': 'conf_rbd_qos_bps_limit',
    'read_bytes_sec': 'conf_rbd_qos_read_bps_limit',
    'write_bytes_sec': 'conf_rbd_qos_write_bps_limit',
    'total_iops_sec_max': 'conf_rbd_qos_iops_burst',
    'read_iops_sec_max': 'conf_rbd_qos_read_iops_burst',
    'write_iops_sec_max': 'conf_rbd_qos_write_iops_burst',
    'total_bytes_sec_max': 'conf_rbd_qos_bps_burst',
    'read_bytes_sec_max': 'conf_rbd_qos_read_bps_burst',
    'write_bytes_sec_max': 'conf_rbd_qos_write_bps_burst',
}


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def _limits(world: World, name: str = VOLUME) -> dict[str, str]:
    with world.volumes.open(name, read_only=True) as image:
        return {key: value for key, value in image.metadata().items()
                if key.startswith('conf_')}


@pytest.mark.parametrize('word', ALL)
def test_each_spec_is_librbds_own_setting(world: World, word: str) -> None:
    """The stock driver writes the burst of operations where that of bytes
    belongs."""
    with world.driver() as driver:
        driver.qos.set(VOLUME, {word: '500'})
    assert _limits(world) == {ALL[word]: '500'}


def test_two_specs_never_share_a_setting() -> None:
    assert len(set(qos.KEYS.values())) == len(qos.KEYS) == len(ALL)


def test_new_limits_replace_all_others(world: World) -> None:
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'total_iops_sec': '500',
                                'total_bytes_sec': '1000'})
        driver.qos.set(VOLUME, {'total_iops_sec': '600',
                                'read_iops_sec': '7'})
    assert _limits(world) == {'conf_rbd_qos_iops_limit': '600',
                              'conf_rbd_qos_read_iops_limit': '7'}


def test_what_the_stock_driver_wrote_in_the_wrong_place_goes(world: World
                                                             ) -> None:
    with world.volumes.open(VOLUME) as image:
        image.set_metadata('conf_rbd_qos_iops_limit', '100')
        image.set_metadata('conf_rbd_qos_bps_burst', '200')
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'total_iops_sec': '100',
                                'total_iops_sec_max': '200'})
    assert _limits(world) == {'conf_rbd_qos_iops_limit': '100',
                              'conf_rbd_qos_iops_burst': '200'}


def test_cleared_limits_are_gone_and_nothing_else_is(world: World) -> None:
    with world.volumes.open(VOLUME) as image:
        image.set_metadata('conf_rbd_cache', 'false')
    with world.driver() as driver:
        driver.qos.set(VOLUME, dict.fromkeys(ALL, '10'))
        driver.qos.clear(VOLUME)
        driver.qos.clear(VOLUME)
    assert _limits(world) == {'conf_rbd_cache': 'false'}
    assert world.mark('volumes', VOLUME) is not None


def test_no_limit_is_written_down(world: World) -> None:
    """The pool or the cluster may have one."""
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'total_iops_sec': '0'})
    assert _limits(world) == {'conf_rbd_qos_iops_limit': '0'}


@pytest.mark.parametrize(('specs', 'named'), [
    ({'total_iops_sec': 'many'}, 'total_iops_sec'),
    ({'total_iops_sec': '-1'}, '-1'), ({'total_iops_sec': '1.5'}, '1.5'),
    ({'total_iops_sec': ''}, 'total_iops_sec'),
    ({'total_iops_sec': '1e3'}, '1e3'),
    ({'total_iops_sec': '٣'}, 'total_iops_sec'),
    ({'total_iops_sec': str(2 ** 63)}, 'total_iops_sec'),
    ({'total_iops': '5'}, "'total_iops'"),
    ({'total_bytes_sec': '5', 'maxIOPS': '5'}, "'maxIOPS'"),
])
def test_a_wrong_spec_is_refused_before_anything_is_touched(
        world: World, specs: dict[str, str], named: str) -> None:
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'read_iops_sec': '7'})
        before = world.state()
        for act in (driver.qos.check,
                    lambda specs: driver.qos.set(VOLUME, specs),
                    lambda specs: driver.volumes.create(
                        VolumeSpec('new', MIB, qos=specs)),
                    lambda specs: driver.volumes.create_from_volume(
                        VolumeSpec('new', qos=specs), VOLUME)):
            with pytest.raises(exception.InvalidInput) as caught:
                act(specs)
            assert named in caught.value.message
            assert caught.value.remedy
    assert world.state() == before


@pytest.mark.parametrize('word', [
    'size_iops_sec', 'total_iops_sec_per_gb', 'read_bytes_sec_max_length',
    'write_iops_sec_per_gb_min'])
def test_what_is_the_hypervisors_is_left_to_it(
        world: World, word: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where the consumer is "both" all specs come to both."""
    with caplog.at_level(logging.WARNING), world.driver() as driver:
        driver.qos.set(VOLUME, {word: '10', 'total_iops_sec': '5'})
    assert _limits(world) == {'conf_rbd_qos_iops_limit': '5'}
    assert word in caplog.text


@pytest.mark.parametrize('specs', [
    {'total_iops_sec_max': '10'},
    {'total_iops_sec': '100', 'total_iops_sec_max': '10'}])
def test_a_burst_without_effect_is_said(
        world: World, specs: dict[str, str],
        caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), world.driver() as driver:
        driver.qos.set(VOLUME, specs)
    assert 'total_iops_sec_max (10) has no effect' in caplog.text


def test_the_limits_of_no_volume_cannot_be_set(world: World) -> None:
    with world.driver() as driver:
        for act in (lambda: driver.qos.set('nope', {}),
                    lambda: driver.qos.clear('nope')):
            with pytest.raises(exception.ImageNotFound):
                act()


def test_a_change_that_fails_half_way_leaves_the_limits_as_they_were() -> None:
    def begin() -> World:
        world = World()
        world.make_volume()
        with world.driver() as driver:
            driver.qos.set(VOLUME, {'total_iops_sec': '1',
                                    'read_iops_sec': '2'})
        return world

    new = {'total_iops_sec': '3', 'write_iops_sec': '4',
           'total_bytes_sec': '5'}
    whole = begin()
    whole.trace()
    with whole.driver() as driver:
        driver.qos.set(VOLUME, new)
    calls = whole.end_trace()['ceph']
    assert len(calls) > 5
    for number in range(len(calls)):
        world = begin()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        with world.driver() as driver, \
                pytest.raises(exception.ClusterUnavailable):
            driver.qos.set(VOLUME, new)
        assert world.state() == before, calls[number]


def test_a_clone_has_the_limits_of_its_own_type_only(world: World) -> None:
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'total_iops_sec': '500'})
        driver.volumes.create_from_volume(
            VolumeSpec('same', qos={'read_iops_sec': '7'}), VOLUME)
        driver.volumes.create_from_volume(VolumeSpec('free'), VOLUME)
    assert _limits(world, 'same') == {'conf_rbd_qos_read_iops_limit': '7'}
    assert _limits(world, 'free') == {}
    mark = world.mark('volumes', 'same')
    assert mark is not None
    assert mark.kind == lineage.VOLUME
