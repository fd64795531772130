# SPDX-License-Identifier: Apache-2.0
"""Which way an image comes into a file."""

from __future__ import annotations

import pytest

from tests.unit import plan_facts
from tests.unit.plan_facts import GIB, place
from volume_rbd import exception, plan
from volume_rbd.plan import Reason, Strategy

WAYS = [Strategy.EXPORT, Strategy.DOWNLOAD]


def ways(decided: plan.Plan) -> list[Strategy]:
    return [choice.strategy for choice in decided.choices]


@pytest.mark.parametrize('disk_format', ['raw', 'qcow2', 'iso', 'luks'])
def test_a_snapshot_that_can_be_read_is_whatever_the_format(disk_format: str
                                                            ) -> None:
    decided = plan.plan_fetch(plan_facts.fetch_facts(
        image=plan_facts.image(disk_format=disk_format)))

    assert ways(decided) == WAYS
    assert decided.reason is Reason.SNAPSHOT_READABLE
    assert str(decided.source) == f'images/{plan_facts.IMAGE_ID}@snap'
    assert decided.size_bytes == GIB


def test_all_locations_are_looked_at() -> None:
    decided = plan.plan_fetch(plan_facts.fetch_facts(locations=(
        place(problem=Reason.NOT_RBD),
        place(problem=Reason.OTHER_CLUSTER, fsid=plan_facts.OTHER_FSID),
        place(pool='other'))))

    assert ways(decided) == WAYS
    assert decided.source is not None
    assert decided.source.pool == 'other'


@pytest.mark.parametrize('problem', [
    Reason.NOT_RBD, Reason.MALFORMED_LOCATION, Reason.OTHER_CLUSTER,
    Reason.FOREIGN_LOCATION, Reason.MISSING_SNAPSHOT, Reason.SNAPSHOT_DENIED,
    Reason.SNAPSHOT_UNREADABLE, Reason.STORES_FORBIDDEN,
    Reason.STORES_NOT_CONFIGURED, Reason.STORES_BROKEN])
def test_what_cannot_be_read_is_downloaded(problem: Reason) -> None:
    decided = plan.plan_fetch(plan_facts.fetch_facts(
        locations=(place(problem=problem),)))

    assert ways(decided) == [Strategy.DOWNLOAD]
    assert decided.reason is problem
    assert decided.source is None
    assert [choice.reason for choice in decided.ruled_out] == [problem]


def test_without_a_location_it_is_downloaded() -> None:
    decided = plan.plan_fetch(plan_facts.fetch_facts(locations=()))
    assert decided.reason is Reason.NO_LOCATION


@pytest.mark.parametrize('obstacle', [Reason.DIRECT_DISABLED,
                                      Reason.CLUSTER_UNAVAILABLE])
def test_an_obstacle_is_said_with_its_detail(obstacle: Reason) -> None:
    decided = plan.plan_fetch(plan_facts.fetch_facts(
        obstacle=obstacle, detail='it said so'))

    assert ways(decided) == [Strategy.DOWNLOAD]
    assert decided.reason is obstacle
    assert decided.sentence.endswith('(it said so).')


def test_an_image_that_is_not_active_is_refused() -> None:
    with pytest.raises(exception.GlanceImageNotUsable):
        plan.plan_fetch(plan_facts.fetch_facts(
            image=plan_facts.image(status='queued')))
