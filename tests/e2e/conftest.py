# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test stands on: a sandbox with Cinder.

Cinder comes up in the sandbox of the test run when the first of these tests
asks for it; where tests run in several processes it is in one of its own, and
goes with the last of them. Its processes are patched by eventlet, as they are
by default; with native threads::

    VOLUME_RBD_TEST_CINDER=threads pytest tests/e2e
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import parallel, sandboxes
from tests.e2e import pair
from tests.e2e.cinder import CinderAPI
from tests.functional.api import GlanceAPI
from volume_rbd.sandbox import Options, Sandbox

MODE_VARIABLE = 'VOLUME_RBD_TEST_CINDER'


@pytest.fixture(scope='package')
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The sandbox with Cinder."""
    mode = os.environ.get(MODE_VARIABLE, 'eventlet')
    assert mode in ('eventlet', 'threads'), f'{MODE_VARIABLE}={mode}'
    options = {'cinder': True, 'cinder_eventlet': mode == 'eventlet'}
    if parallel.is_worker(request.config):
        # What else this process runs has a quieter one.
        with sandboxes.opened(**options) as made:
            yield made
        return
    found = request.getfixturevalue('sandbox')
    found.up(Options.from_json({**found.status().options, **options}))
    yield found


@pytest.fixture
def etc_ceph(sandbox: Sandbox) -> Iterator[None]:
    """The keyrings that os-brick looks for: the stock driver does not
    upload, and nobody attaches with os-brick, without them."""
    sandbox.set_etc_ceph(True)
    yield
    sandbox.set_etc_ceph(False)


@pytest.fixture
def clustered(sandbox: Sandbox) -> Iterator[None]:
    """The sandbox's cinder-volume is a member of a cluster."""
    with pair.clustered(sandbox):
        yield


@pytest.fixture
def second(sandbox: Sandbox, admin: CinderAPI, clustered: None,
           tmp_path: Path) -> Iterator[pair.Second]:
    """A service of the same cluster, as on another host."""
    made = pair.Second(sandbox, admin, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope='package')
def member(sandbox: Sandbox) -> CinderAPI:
    """Cinder as a plain user."""
    return CinderAPI(sandbox.env('member'))


@pytest.fixture(scope='package')
def other(sandbox: Sandbox) -> CinderAPI:
    """Cinder as a plain user of another project."""
    return CinderAPI(sandbox.env('other'))


@pytest.fixture(scope='package')
def admin(sandbox: Sandbox) -> CinderAPI:
    """Cinder as its administrator."""
    return CinderAPI(sandbox.env('admin'))


@pytest.fixture(scope='package')
def glance(sandbox: Sandbox) -> GlanceAPI:
    """Glance as the plain user."""
    return GlanceAPI(sandbox.env('member'))
