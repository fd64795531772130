# SPDX-License-Identifier: Apache-2.0
"""Who may work in the background, and when; with a clock of the test's own."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.unit.world import MIB, VOLUME, World, closed_now
from volume_rbd import exception, model
from volume_rbd.ceph.interface import Health
from volume_rbd.driver import budget, pulse
from volume_rbd.driver.budget import FLATTEN, PURGE, Budget
from volume_rbd.driver.pulse import ClusterPulse
from volume_rbd.driver.reclaim import items
from volume_rbd.driver.schedule import Schedule, Ticket

BAD = 'the cluster is slow'
OVERDUE_S = 301.0


class Pulse:
    def __init__(self) -> None:
        self.trouble = ''

    def problem(self, kind: str) -> str:
        return self.trouble


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, '_PAUSE_S', 0.01)


def _never_over(done: int, total: int) -> None:
    """Nobody stops it."""


# -- whose turn it is ---------------------------------------------------------

def _add(waiting: Schedule, *kinds: str) -> list[Ticket]:
    tickets = [Ticket(kind) for kind in kinds]
    for ticket in tickets:
        waiting.add(ticket)
    return tickets


def _next(waiting: Schedule, tickets: list[Ticket], now: float = 0.0,
          problem: str = '') -> Ticket | None:
    """Who begins of those that wait."""
    for ticket in list(tickets):
        if waiting.begin(ticket, now, problem):
            tickets.remove(ticket)
            return ticket
    return None


def test_no_more_run_at_once_than_allowed() -> None:
    waiting = Schedule(2, {})
    tickets = _add(waiting, PURGE, PURGE, PURGE)
    first, second = _next(waiting, tickets), _next(waiting, tickets)
    assert first is not None
    assert second is not None
    assert _next(waiting, tickets) is None
    waiting.end(first)
    assert _next(waiting, tickets) is not None


def test_a_kind_has_a_limit_of_its_own() -> None:
    waiting = Schedule(4, {FLATTEN: 1})
    tickets = _add(waiting, FLATTEN, FLATTEN, PURGE)
    begun = [_next(waiting, tickets), _next(waiting, tickets)]
    assert sorted(each.kind for each in begun if each) == [FLATTEN, PURGE]
    assert _next(waiting, tickets) is None


@pytest.mark.parametrize('operations', [1, 2])
def test_kinds_share_fairly_however_many_wait(operations: int) -> None:
    waiting = Schedule(operations, {})
    tickets = _add(waiting, *[FLATTEN] * 20, *[PURGE] * 4)
    order, running = [], []
    while tickets:
        while (ticket := _next(waiting, tickets)) is not None:
            order.append(ticket.kind)
            running.append(ticket)
        waiting.end(running.pop(0))
    assert order[:8].count(PURGE) == 4


def test_who_is_waited_for_goes_first_and_needs_no_turn() -> None:
    waiting = Schedule(1, {FLATTEN: 2})
    [running, second] = tickets = _add(waiting, FLATTEN, FLATTEN)
    assert _next(waiting, tickets) is running
    assert not waiting.begin(second, 0.0)
    users = Ticket(FLATTEN, is_waited_for=True)
    waiting.add(users)
    assert not waiting.is_wanted(running)
    assert waiting.begin(users, 0.0, BAD, is_open=False)


def test_who_runs_makes_room_for_who_is_waited_for() -> None:
    waiting = Schedule(4, {FLATTEN: 1})
    [running, other] = _add(waiting, FLATTEN, FLATTEN)
    assert waiting.begin(running, 0.0)
    assert not waiting.is_wanted(running)
    users = Ticket(FLATTEN, is_waited_for=True)
    waiting.add(users)
    assert waiting.is_wanted(running)
    waiting.end(running)
    assert not waiting.begin(other, 0.0), 'the background went first'
    assert waiting.begin(users, 0.0)


def test_who_runs_makes_room_for_a_kind_that_has_no_turn() -> None:
    waiting = Schedule(2, {})
    [one, two, purge] = _add(waiting, FLATTEN, FLATTEN, PURGE)
    waiting.drop(purge)
    assert waiting.begin(one, 0.0)
    assert waiting.begin(two, 0.0)
    assert not waiting.is_wanted(one)
    waiting.add(purge)
    assert waiting.is_wanted(one)


def test_in_a_bad_way_nothing_begins_until_it_is_overdue() -> None:
    waiting = Schedule(4, {})
    tickets = _add(waiting, FLATTEN, FLATTEN)
    assert _next(waiting, tickets, 0.0, BAD) is None
    assert _next(waiting, tickets, OVERDUE_S - 10, BAD) is None
    one = _next(waiting, tickets, OVERDUE_S, BAD)
    assert one is not None
    assert one.is_exempt
    assert _next(waiting, tickets, OVERDUE_S, BAD) is None, 'two at once'
    waiting.end(one)
    assert _next(waiting, tickets, OVERDUE_S + 1, BAD) is None
    assert _next(waiting, tickets, 2 * OVERDUE_S, BAD) is not None


def test_a_kind_that_is_held_back_holds_up_no_other() -> None:
    """A full pool: nothing is flattened, and all the more is purged."""
    waiting = Schedule(4, {})
    [flatten, purge] = _add(waiting, FLATTEN, PURGE)
    assert not waiting.begin(flatten, 0.0, BAD)
    assert waiting.begin(purge, 0.0)


def test_the_hours_are_never_passed_over() -> None:
    waiting = Schedule(4, {})
    [ticket] = _add(waiting, FLATTEN)
    assert not waiting.begin(ticket, 0.0, BAD, is_open=False)
    assert not waiting.begin(ticket, 10 * OVERDUE_S, BAD, is_open=False)


@pytest.mark.parametrize(('hours', 'at', 'is_open'), [
    (None, '12:00', True),
    ((22 * 60, 6 * 60), '23:59', True),
    ((22 * 60, 6 * 60), '05:59', True),
    ((22 * 60, 6 * 60), '06:00', False),
    ((22 * 60, 6 * 60), '21:59', False),
    ((9 * 60 + 30, 17 * 60), '09:30', True),
    ((9 * 60 + 30, 17 * 60), '09:29', False),
    ((9 * 60 + 30, 17 * 60), '17:00', False)])
def test_hours_may_span_midnight(hours: tuple[int, int] | None, at: str,
                                 is_open: bool) -> None:
    assert budget.is_within(hours, time.strptime(at, '%H:%M')) is is_open


# -- turns --------------------------------------------------------------------

def _budget(*, is_open: bool = True, clock: Clock | None = None,
            heart: Pulse | None = None, operations: int = 4,
            flattens: int = 1, bytes_per_s: float | None = None) -> Budget:
    return Budget(heart or Pulse(), operations=operations,
                  most={FLATTEN: flattens}, bytes_per_s=bytes_per_s,
                  is_open=lambda: is_open, clock=clock or Clock())


def test_a_long_one_is_done_in_turns_and_none_of_it_twice() -> None:
    clock, done = Clock(), list[int]()
    turns = 0

    def work(on_progress: budget.OnProgress) -> str:
        nonlocal turns
        turns += 1
        for step in range(100):
            if step not in done:
                done.append(step)
                clock.now += 5
            on_progress(step + 1, 100)
        return 'done'

    assert _budget(clock=clock).run(PURGE, work, check=_never_over) == 'done'
    assert done == list(range(100))
    assert 10 < turns < 20


def test_where_what_was_done_takes_long_to_pass_over_it_gets_on() -> None:
    """Without an object map each object is looked at again."""
    clock = Clock()

    def work(on_progress: budget.OnProgress) -> None:
        for step in range(200):
            clock.now += 1
            on_progress(step + 1, 200)

    _budget(clock=clock).run(PURGE, work, check=_never_over)


def test_bytes_pass_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    spent = _budget(clock=clock, bytes_per_s=10.0)
    monkeypatch.setattr(spent._bandwidth, '_sleep',
                        lambda seconds: setattr(clock, 'now',
                                                clock.now + seconds))
    begin = clock.now

    def work(on_progress: budget.OnProgress) -> None:
        for step in range(100):
            on_progress(step + 1, 100)

    spent.run(FLATTEN, work, check=_never_over, data_bytes=1000)
    assert 93 <= clock.now - begin <= 101


def _run_out_of_hours(heart: Pulse, *, overdue: bool) -> list[int]:
    """:returns: the steps that were reached; the third one ends the hours.
    """
    clock, reached = Clock(), []
    spent = Budget(heart, operations=1, most={}, clock=clock,
                   is_open=lambda: not reached or reached[-1] < 3)
    if overdue:
        assert spent.is_held_back(PURGE)
        clock.now += OVERDUE_S
    spent.leave_rest()

    def work(on_progress: budget.OnProgress) -> None:
        for step in range(10):
            reached.append(step)
            clock.now += 60 * overdue
            on_progress(step + 1, 10)

    with pytest.raises(exception.Cancelled, match='time of day'):
        spent.run(PURGE, work, check=_never_over)
    return reached


def test_the_end_of_the_hours_stops_what_runs() -> None:
    assert _run_out_of_hours(Pulse(), overdue=False) == [0, 1, 2, 3]


def test_the_end_of_the_hours_stops_what_was_overdue_too() -> None:
    """Begun although the cluster was in a bad way, and not yet done."""
    heart = Pulse()
    heart.trouble = BAD
    assert _run_out_of_hours(heart, overdue=True) == [0, 1, 2, 3]


def test_a_waiting_user_s_flatten_gets_the_slot_of_a_running_one() -> None:
    spent = _budget(flattens=1)
    is_running, order = threading.Event(), []

    def work(on_progress: budget.OnProgress) -> None:
        for step in range(1, 1000):
            is_running.set()
            time.sleep(0.005)
            on_progress(step, 1000)
            if 'user' in order:
                return

    thread = threading.Thread(target=lambda: spent.run(
        FLATTEN, work, check=_never_over))
    thread.start()
    assert is_running.wait(5)
    with spent.slot(FLATTEN):
        order.append('user')
    thread.join(5)
    assert not thread.is_alive()


def test_who_waits_for_a_slot_can_be_cancelled() -> None:
    spent = _budget(flattens=1)

    def check() -> None:
        raise exception.Cancelled('no')

    with spent.slot(FLATTEN), pytest.raises(exception.Cancelled), \
                spent.slot(FLATTEN, check):
        pass
    with spent.slot(FLATTEN):
        pass


def test_when_somebody_waits_for_all_nothing_is_held_back() -> None:
    heart = Pulse()
    heart.trouble = BAD
    spent = _budget(heart=heart, is_open=False)
    assert spent.is_held_back(PURGE)
    with spent.hurry():
        assert spent.run(PURGE, lambda _: 1, check=_never_over) == 1


def test_what_nobody_has_asked_for_yet_becomes_overdue_too() -> None:
    """purge_due() asks for no turn that it would not get."""
    heart, clock = Pulse(), Clock()
    heart.trouble = BAD
    spent = _budget(heart=heart, clock=clock)
    assert spent.is_held_back(PURGE)
    clock.now += OVERDUE_S
    assert not spent.is_held_back(PURGE)
    spent.leave_rest()
    assert spent.run(PURGE, lambda _: 1, check=_never_over) == 1
    assert spent.is_held_back(PURGE)


def test_what_is_held_back_is_left_at_the_end() -> None:
    heart = Pulse()
    heart.trouble = BAD
    spent = _budget(heart=heart)
    spent.leave_rest()
    with pytest.raises(exception.Cancelled, match='slow'):
        spent.run(PURGE, lambda _: 1, check=_never_over)
    heart.trouble = ''
    assert spent.run(PURGE, lambda _: 1, check=_never_over) == 1


# -- how the cluster is -------------------------------------------------------

@pytest.mark.parametrize(('health', 'flatten', 'purge'), [
    (Health('HEALTH_OK'), '', ''),
    (Health('HEALTH_WARN', frozenset({'POOL_APP_NOT_ENABLED'})), '', ''),
    (Health('HEALTH_WARN', frozenset({'SLOW_OPS'})), 'busy', 'busy'),
    (Health('HEALTH_WARN', frozenset({'PG_DEGRADED'})), 'busy', 'busy'),
    (Health('HEALTH_ERR', frozenset({'OSD_FULL'}), frozenset({'OSD_FULL'})),
     'OSD_FULL', ''),
    (Health('HEALTH_ERR', frozenset({'X'}), frozenset({'X'})), 'X', 'X')])
def test_health_says_what_may_be_begun(health: Health, flatten: str,
                                       purge: str) -> None:
    world = World()
    world.ceph.health = health
    heart = ClusterPulse(world.cluster, 'volumes')
    for kind, said in ((FLATTEN, flatten), (PURGE, purge)):
        assert said in heart.problem(kind)
        assert bool(heart.problem(kind)) is bool(said)


def test_a_slow_cluster_is_left_alone_and_asked_again() -> None:
    world, clock = World(), Clock()
    heart = ClusterPulse(world.cluster, 'volumes', clock=clock)
    took_s = 2.0

    def check() -> None:
        clock.now += took_s

    heart._pool.check = check  # type: ignore[method-assign]
    assert 'took 2.0 s' in heart.problem(PURGE)
    took_s = 0.001
    assert heart.problem(PURGE), 'an answer is believed for a while'
    clock.now += 10
    assert heart.problem(PURGE) == ''


def test_who_may_not_ask_the_monitors_goes_by_the_speed() -> None:
    world = World()
    world.ceph.fail_next('health', exception.CephPermissionDenied('no'), 2)
    heart = ClusterPulse(world.cluster, 'volumes')
    assert heart.problem(PURGE) == ''


def test_a_cluster_that_does_not_answer_is_left_alone() -> None:
    world = World()
    world.ceph.fail_next('health', exception.OperationTimeout('silence'))
    heart = ClusterPulse(world.cluster, 'volumes')
    assert 'silence' in heart.problem(FLATTEN)


# -- of a driver --------------------------------------------------------------

@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pulse, '_FRESH_S', -1.0)
    made = World()
    made.make_volume()
    made.configure(flatten_when='background',
                   flatten_volume_from_snapshot=True)
    return made


def test_outside_of_its_hours_the_driver_deletes_at_once_and_purges_later(
        world: World) -> None:
    world.configure(background_hours=closed_now())
    with world.driver() as driver:
        driver.volumes.delete(VOLUME)
        assert driver.reclaimer.purge_due() == []
    assert world.disks('volumes') == [f'[{VOLUME}]']
    world.configure(background_hours=None)
    with world.driver() as driver:
        assert len(driver.reclaimer.purge_due()) == 1
    assert world.ceph.disks == {}


def _ancestry(world: World) -> None:
    """A volume in the trash, and its clone."""
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec('child'), VOLUME)
        driver.volumes.delete(VOLUME)


def test_the_end_of_the_hours_stops_what_a_removal_sets_free(world: World
                                                             ) -> None:
    world.configure(flatten_volume_from_snapshot=False)
    _ancestry(world)
    with world.driver() as driver:
        world.ceph.hooks[world.cluster.address] = lambda method: (
            setattr(driver.budget, '_is_open', lambda: False)
            if method == 'trash_remove' else None)
        driver.volumes.delete('child')
    assert world.disks('volumes') == [f'[{VOLUME}]']
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.ceph.disks == {}


def test_an_image_that_is_set_free_waits_for_the_hours_and_is_not_forgotten(
        world: World) -> None:
    """No look through the volumes' trash would find it."""
    world.configure(flatten_volume_from_snapshot=False)
    image_id = world.make_image()
    with world.driver() as driver:
        driver.images.create(model.VolumeSpec('child', model.GIB), image_id)
        world.glance.delete_image(image_id)
        with world.volumes.open('child') as child:
            parent = child.parent
            child.flatten()
        assert world.disks('images') == [f'[{image_id}]']
        driver.budget._is_open = lambda: False
        driver.reclaimer.release(parent)
    assert world.disks('images') == [f'[{image_id}]']
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.disks('images') == []
    assert world.volumes.metadata() == {}


def test_an_image_that_is_needed_again_is_forgotten(world: World) -> None:
    image_id = world.make_image()
    [disk] = [disk for disk in world.ceph.disks.values()
              if disk.pool == 'images']
    world.volumes.set_metadata(f'volume_rbd.purging.{disk.id}', 'images')
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.disks('images') == [image_id]
    assert world.volumes.metadata() == {}


def test_what_a_killed_operation_left_waits_for_the_hours(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, 'APART_S', 0.0)
    world.volumes.create('volume_rbd.migrate-x', 1024 * model.GIB)
    world.configure(background_hours=closed_now())
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.disks('volumes') == ['[volume_rbd.migrate-x]', VOLUME]
    world.configure(background_hours=None)
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.disks('volumes') == [VOLUME]


def test_who_waits_for_one_removal_lets_no_other_go(world: World) -> None:
    world.configure(background_hours=closed_now())
    others = [f'v{number}' for number in range(4)]
    for name in [*others, 'mine']:
        world.make_volume(name)
    with world.driver() as driver:
        image_id = driver.volumes.show('mine').image_id
        for name in [*others, 'mine']:
            driver.volumes.delete(name)
        assert driver.reclaimer.purge_now(image_id)
        time.sleep(0.1)
        assert world.disks('volumes') == [
            *(f'[{name}]' for name in others), VOLUME]
        assert driver.reclaimer.purge_now(image_id), 'it is gone already'


def test_a_removal_that_is_under_way_is_waited_for(world: World) -> None:
    is_begun, may_end = threading.Event(), threading.Event()
    with world.driver() as driver:
        image_id = driver.volumes.show(VOLUME).image_id
        remove_data = driver.reclaimer._remover._remove_data

        def slowly(*arguments: Any) -> None:
            is_begun.set()
            assert may_end.wait(5)
            remove_data(*arguments)

        driver.reclaimer._remover._remove_data = slowly
        driver.volumes.delete(VOLUME)
        assert is_begun.wait(5)
        threading.Timer(0.1, may_end.set).start()
        assert driver.reclaimer.purge_now(image_id)
    assert world.ceph.disks == {}


def test_who_waits_for_a_removal_can_be_cancelled(world: World) -> None:
    def cancel() -> None:
        raise exception.Cancelled('no')

    world.configure(background_hours=closed_now())
    with world.driver() as driver:
        image_id = driver.volumes.show(VOLUME).image_id
        driver.volumes.delete(VOLUME)
        with pytest.raises(exception.Cancelled):
            driver.reclaimer.purge_now(image_id, cancel)
    assert world.disks('volumes') == [f'[{VOLUME}]']
    assert world.volumes.metadata() == {}


def test_reclaim_by_command_minds_no_hours(world: World) -> None:
    world.configure(background_hours=closed_now())
    with world.driver() as driver:
        driver.volumes.delete(VOLUME)
        driver.reclaimer.purge()
    assert world.ceph.disks == {}


def test_a_sick_cluster_is_given_nothing_to_flatten_but_what_is_waited_for(
        world: World) -> None:
    world.ceph.health = Health('HEALTH_ERR', frozenset({'X'}),
                               frozenset({'X'}))
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec('later'), VOLUME)
    world.configure(flatten_when='before_use')
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec('now'), VOLUME)
        assert driver.volumes.show('now').parent is None
        assert driver.volumes.show('later').parent is not None
    world.ceph.health = Health('HEALTH_OK')
    with world.driver() as driver:
        driver.reclaimer.purge_due()
        driver.flattener.wait()
        assert driver.volumes.show('later').parent is None
    assert world.volumes.metadata() == {}


def test_a_flatten_is_measured_by_what_has_data(world: World) -> None:
    world.configure(background_bytes_per_s=100 * MIB)
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec('c'), VOLUME)
    with world.driver() as driver:
        assert driver.volumes.show('c').parent is None
