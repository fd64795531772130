# SPDX-License-Identifier: Apache-2.0
"""Uploads whose process is killed while Glance registers, taken up by another
one that finds a Glance in trouble: the image becomes active all the same, or
all is undone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.desk import LEASE_S, OPTIMIZED
from tests.functional.house import House
from tests.functional.ledger import Ledger
from tests.functional.program import started
from tests.functional.proxy import Proxy
from volume_rbd import exception

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)
# What Glance is asked while an upload is registered.
STEPS = {'before it is asked': ('POST', '/locations$', 'before'),
         'when it has taken it': ('POST', '/locations$', 'after'),
         'while it is waited for': ('GET', '/v2/images/[^/]+$', 'after')}
TROUBLES: dict[str, dict[str, Any]] = {
    '500': {'status': 500, 'times': 3}, '503': {'status': 503, 'times': 3},
    'reset': {'reset': 'before', 'times': 3},
    'reset after': {'reset': 'after', 'times': 3},
    'slow': {'delay_s': 2, 'times': 3}}


class Upload:
    """Of a volume, by way of a proxy."""

    def __init__(self, house: House, proxy: Proxy) -> None:
        self.house = house
        self.proxy = proxy
        self.config = house.config({
            'DEFAULT': {'glance_api_servers': proxy.url,
                        'glance_num_retries': 1},
            'optimized': {'job_lease': LEASE_S,
                          'clone_registration_timeout': 5}})
        self.ledger = Ledger(house.cluster)

    def kill_at(self, method: str, pattern: str, when: str,
                also: Callable[[], None] = lambda: None) -> None:
        """Glance knows or does not, and nobody has heard its answer.

        :param also: is called then.
        """
        volume = self.house.volume(DATA)
        with started(self.house, 'upload', volume, '--image-name', 'x',
                     *OPTIMIZED, config=self.config) as program:
            program.wait_for('taking the snapshot of the image')

            def kill() -> None:
                program.signal(signal.SIGKILL)
                also()

            rule = self.proxy.on(method, pattern, times=1, **{when: kill})
            assert program.end() == -signal.SIGKILL, program.stderr
            assert rule.hits == 1
        self.proxy.rules.clear()

    def resume(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.house.run_json(
            'jobs', 'resume', *words, *OPTIMIZED, config=self.config)
        return found

    def check(self, settled: dict[str, Any]) -> None:
        image = settled['target'].removeprefix('image ')
        assert settled['state'] == 'done'
        self.house.member.wait_for_status(image, 'active')
        assert self.house.member.digest(image) == DIGEST
        assert len(self.house.service.locations(image)) == 1


@pytest.fixture
def upload(house: House, proxy: Proxy) -> Iterator[Upload]:
    made = Upload(house, proxy)
    yield made
    made.ledger.check_no_job()


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('trouble', [
    'reset after', *(pytest.param(trouble, marks=pytest.mark.faults)
             for trouble in TROUBLES if trouble != 'reset after')])
def test_a_registration_that_was_cut_off_is_settled_with_a_glance_in_trouble(
        upload: Upload, step: str, trouble: str) -> None:
    upload.kill_at(*STEPS[step])
    rule = upload.proxy.on('*', '/v2/images/', **TROUBLES[trouble])

    outcomes = upload.resume()

    assert rule.hits
    upload.check(outcomes[-1])


@pytest.mark.faults
@pytest.mark.parametrize('step', STEPS)
def test_glance_was_killed_with_the_upload_and_is_away_when_it_is_taken_up(
        upload: Upload, step: str) -> None:
    """Whoever takes it up says so and changes nothing. When Glance is back it
    goes on; what Glance itself had begun is waited for, until the image's
    owner gives it up."""
    house, sandbox = upload.house, upload.house.sandbox
    try:
        upload.kill_at(*STEPS[step], also=lambda: sandbox.signal_process(
            'glance', signal.SIGKILL))
        away = house.run('jobs', 'resume', *OPTIMIZED, config=upload.config)
    finally:
        sandbox.start_process('glance')
    assert away.returncode == exception.GlanceUnavailable.exit_code
    assert 'glance-api' in away.stdout

    settled = upload.resume()[-1]

    if settled['state'] == 'waiting':
        assert step != 'before it is asked'
        image = settled['target'].removeprefix('image ')
        house.member.delete(image)
        assert upload.resume()[-1]['state'] == 'undone'
        assert image not in house.cluster.names('images')
        return
    upload.check(settled)
