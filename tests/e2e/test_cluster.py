# SPDX-License-Identifier: Apache-2.0
"""Two cinder-volume services of one cluster, both of which may serve any of
its volumes: ``cluster =`` in cinder.conf."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cinder import CinderAPI
from tests.e2e.traces import Traces, opened
from volume_rbd.sandbox import Sandbox


@pytest.fixture
def traces(sandbox: Sandbox, clustered: None) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


@pytest.mark.usefixtures('second')
def test_what_one_service_has_made_the_other_serves(
        sandbox: Sandbox, traces: Traces, admin: CinderAPI) -> None:
    volume = traces.volume('on')
    image = traces.image(b'x' * 2 ** 20)
    assert admin.show(volume).cluster_name.startswith('pair@on')
    sandbox.stop_process('cinder-volume')
    try:
        snapshot = traces.snapshot(volume)
        clone = traces.volume('on', source_volid=volume)
        made = traces.volume('on', imageRef=image)
        assert traces.parent(made)
        traces.cinder.extend(clone, 2)
        traces.upload(volume)
        traces.cinder.delete_snapshot(snapshot)
    finally:
        sandbox.start_process('cinder-volume')
