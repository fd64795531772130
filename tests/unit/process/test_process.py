# SPDX-License-Identifier: Apache-2.0
"""The driver behind sockets behaves as the driver."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Generator

import pytest

from tests.unit.process.conftest import Bench
from tests.unit.world import MIB, VOLUME, StoringGlance
from volume_rbd import exception, model, opts
from volume_rbd.driver.images import ImageRequest
from volume_rbd.process import operations, wire
from volume_rbd.process.client import BackendProcess
from volume_rbd.process.server import Hello

SPEC = model.VolumeSpec('volume-2', 8 * MIB)


def test_a_volume_is_made_and_shown(bench: Bench) -> None:
    driver = bench.process.driver()
    driver.volumes.create(SPEC)
    shown = driver.volumes.show(SPEC.name)
    assert (shown.name, shown.size_bytes) == (SPEC.name, 8 * MIB)
    assert shown.lineage is not None
    assert shown.lineage.kind == 'volume'


def test_results_are_what_the_driver_itself_gives(bench: Bench) -> None:
    bench.world.make_volume()
    with bench.world.driver() as direct:
        assert bench.process.driver().volumes.show(
            VOLUME) == direct.volumes.show(VOLUME)


def test_errors_come_back_as_they_were_raised(bench: Bench) -> None:
    with pytest.raises(exception.ImageNotFound) as raised:
        bench.process.driver().volumes.show('none')
    with bench.world.driver() as direct, \
            pytest.raises(exception.ImageNotFound) as own:
        direct.volumes.show('none')
    assert str(raised.value) == str(own.value)
    assert raised.value.remedy == own.value.remedy


def test_every_error_of_the_project_crosses() -> None:
    kinds = [kind for kind in vars(exception).values()
             if isinstance(kind, type)
             and issubclass(kind, exception.VolumeRBDError)]
    for kind in kinds:
        found = exception.from_name(
            f'{kind.__module__}.{kind.__name__}', ('what', 'remedy'))
        assert type(found) is kind


def test_an_upload_is_made_for_its_caller(bench: Bench) -> None:
    bench.world.make_volume()
    caller = model.Caller(auth_token='secret', user_id='u', project_id='p')
    result = bench.process.driver(caller).images.upload(
        model.VolumeSpec(VOLUME), ImageRequest('an image'))
    assert result.strategy == 'clone'
    assert bench.callers == [caller]


def test_without_a_caller_the_service_acts(bench: Bench) -> None:
    bench.world.make_volume()
    bench.process.driver().images.upload(
        model.VolumeSpec(VOLUME), ImageRequest('an image'))
    assert not bench.callers


def test_no_token_is_in_a_repr_or_in_an_error(bench: Bench) -> None:
    caller = model.Caller(auth_token='secret')
    driver = bench.process.driver(caller)
    assert 'secret' not in repr(caller) + repr(driver)
    with pytest.raises(exception.VolumeRBDError) as raised:
        driver.volumes.show('none')
    assert 'secret' not in str(raised.value)


def test_what_is_not_in_the_table_cannot_be_called(bench: Bench) -> None:
    with pytest.raises(exception.InvalidInput):
        bench.process.call('volumes', '_pool', {}, None)
    with pytest.raises(exception.InvalidInput):
        bench.process.call('cluster', 'pools', {}, None)
    with pytest.raises(exception.InvalidInput):
        bench.process.call('volumes', 'delete', {'name': {'no': 'text'}},
                           None)


@pytest.mark.parametrize(('subject', 'method'), [
    (subject, method) for subject, (_, methods)
    in operations.OPERATIONS.items() for method in sorted(methods)])
def test_every_operation_of_the_table_can_cross(subject: str, method: str
                                                ) -> None:
    hints = dict(operations._hints(subject, method))
    assert 'return' in hints
    for name, hint in hints.items():
        if name not in ('report', 'glance', 'certificates', 'return'):
            # Raises where nobody knows how to make one of JSON.
            operations._converter.get_structure_hook(hint)


def test_calls_run_side_by_side(bench: Bench) -> None:
    driver = bench.process.driver()
    failures: list[BaseException] = []

    def make(number: int) -> None:
        try:
            driver.volumes.create(
                model.VolumeSpec(f'volume-{number}', MIB))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(number,))
               for number in range(10, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(bench.children) == 1


def test_what_the_child_logs_is_in_the_services_log(
        bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.world.make_volume()
    with caplog.at_level(logging.INFO):
        bench.process.driver().images.upload(
            model.VolumeSpec(VOLUME), ImageRequest('an image'))
    assert 'upload_to_image by clone (same_cluster)' in caplog.text


def test_a_child_that_dies_is_said_and_another_started(bench: Bench) -> None:
    driver = bench.process.driver()
    driver.volumes.create(SPEC)
    bench.children[0].kill()
    assert driver.volumes.show(SPEC.name).size_bytes == 8 * MIB
    assert len(bench.children) == 2


class SlowGlance(StoringGlance):
    """Takes its time for each chunk."""

    def download(self, image_id: str, chunk_bytes: int = MIB
                 ) -> Generator[bytes, None, None]:
        for chunk in super().download(image_id, chunk_bytes):
            time.sleep(0.2)
            yield chunk


def test_leaving_a_call_cancels_it_in_the_child(bench: Bench) -> None:
    """What a killed green thread does: it closes its socket."""
    image_id = bench.world.make_image(
        b'x' * 8 * MIB, store_id='file')
    driver = bench.process.driver()
    driver.volumes.create(SPEC)
    bench.world.glance = SlowGlance(bench.world.server)
    ours, theirs = socket.socketpair()
    bench.process._hand_over(theirs)
    theirs.close()
    wire.send(ours, {
        'subject': 'images', 'method': 'create', 'caller': None,
        'arguments': operations.pack({
            'volume': model.VolumeSpec('volume-3', 8 * MIB),
            'image_id': image_id})})
    deadline = time.monotonic() + 10
    while 'volume-3' not in bench.world.disks('volumes'):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ours.close()
    while 'volume-3' in bench.world.disks('volumes'):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_lets_the_child_end(bench: Bench) -> None:
    bench.process.driver().volumes.create(SPEC)
    bench.process.close()
    assert not bench.children[0]._thread.is_alive()


def test_the_real_child_starts_answers_and_ends(
        capfd: pytest.CaptureFixture[str]) -> None:
    """With a cluster that is not there: the error crosses the border."""
    config = opts.BackendConfig(
        name='nowhere', pool='volumes', cluster=opts.ClusterConfig(
            ceph_conf='/nonexistent/ceph.conf', retries=0))
    process = BackendProcess(Hello(config, (), (), 20))
    try:
        with pytest.raises(exception.ConfigurationError) as raised:
            process.driver().check()
        assert '/nonexistent/ceph.conf' in str(raised.value)
        pid = process.pid
        assert pid is not None
    finally:
        process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    # Its output is the service's: nothing of it belongs there.
    assert capfd.readouterr().err == ''


def test_a_setup_that_cannot_be_is_said_at_the_first_call() -> None:
    config = opts.BackendConfig(name='nowhere', pool='volumes')
    process = BackendProcess(
        Hello(config, ('/nonexistent/cinder.conf',), (), 20))
    with pytest.raises(exception.ConfigurationError, match=r'cinder\.conf'):
        process.driver().check()
    process.close()
