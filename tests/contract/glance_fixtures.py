# SPDX-License-Identifier: Apache-2.0
"""The fixtures of the Glance contract; a module asks for them with::

    pytest_plugins = ('tests.contract.glance_fixtures',)
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.glance_worlds import FakeWorld, Maker, RealWorld, World
from volume_rbd.sandbox import Sandbox


@pytest.fixture(params=[
    'fake', pytest.param('real', marks=pytest.mark.real)])
def glance_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Each test on the fake and on the sandbox's Glance."""
    world: World = (
        FakeWorld() if request.param == 'fake'
        else RealWorld(request.getfixturevalue('sandbox')))
    yield world
    world.close()


@pytest.fixture
def real_glance(sandbox: Sandbox) -> Iterator[RealWorld]:
    """The sandbox's Glance, for what a fake cannot show."""
    world = RealWorld(sandbox)
    yield world
    world.close()


@pytest.fixture
def images(glance_world: World) -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.delete_all()
