# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints are believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.ceph import FakeCeph
from volume_rbd import exception
from volume_rbd.ceph import checkpoint, lineage
from volume_rbd.ceph.interface import Image, Pool

ORIGIN = checkpoint.Origin('images', 'abc', 7, 4096)


@pytest.fixture
def pool() -> Pool:
    return FakeCeph().cluster().pool('volumes')


@pytest.fixture
def image(pool: Pool) -> Iterator[Image]:
    pool.create('one', 4096)
    with pool.open('one') as opened:
        lineage.adopt(opened, kind=lineage.VOLUME, origin='rbd:x', job='j',
                      state=lineage.PENDING)
        checkpoint.write(opened, checkpoint.Checkpoint(ORIGIN, 512))
        yield opened


def test_what_is_written_is_found(image: Image) -> None:
    assert checkpoint.find(image, lineage.VOLUME) == checkpoint.Checkpoint(
        ORIGIN, 512)


def test_one_on_an_image_of_another_kind_is_not(image: Image) -> None:
    assert checkpoint.find(image, lineage.GLANCE_IMAGE) is None


def test_one_that_is_removed_is_gone(image: Image) -> None:
    checkpoint.remove(image)
    checkpoint.remove(image)
    assert checkpoint.find(image, lineage.VOLUME) is None


@pytest.mark.parametrize('state', [lineage.COMPLETE, lineage.TRASHED])
def test_one_on_an_image_that_is_not_pending_is_not_believed(
        image: Image, state: str) -> None:
    lineage.set_state(image, state)
    assert checkpoint.find(image, lineage.VOLUME) is None


def test_one_without_a_mark_is_not_believed(image: Image) -> None:
    image.remove_metadata(lineage.KEY)
    assert checkpoint.find(image, lineage.VOLUME) is None


def test_one_that_was_inherited_is_not_believed(pool: Pool, image: Image
                                                ) -> None:
    text = image.metadata()[checkpoint.KEY]
    pool.create('other', 4096)
    with pool.open('other') as other:
        other.set_metadata(checkpoint.KEY, text)
        lineage.mark(other, kind=lineage.VOLUME, origin='rbd:x', job='j',
                     state=lineage.PENDING)
        assert checkpoint.find(other, lineage.VOLUME) is None
        lineage.adopt(other, kind=lineage.VOLUME, origin='rbd:x', job='j')
        assert checkpoint.KEY not in other.metadata()


@pytest.mark.parametrize('change', [
    {'offset': -1}, {'offset': 4097}, {'offset': 'x'}, {'offset': None},
    {'size_bytes': 511}, {'size_bytes': []}, {'snapshot_id': {}},
    {'image_id': 'another'}, {'image_id': None}])
def test_a_forged_one_is_not_believed(image: Image, change: dict[str, Any]
                                      ) -> None:
    fields = json.loads(image.metadata()[checkpoint.KEY])
    image.set_metadata(checkpoint.KEY, json.dumps(fields | change))
    assert checkpoint.find(image, lineage.VOLUME) is None


@pytest.mark.parametrize('text', ['', '{', '[]', '7', 'null', '{}'])
def test_what_is_no_checkpoint_is_none(image: Image, text: str) -> None:
    image.set_metadata(checkpoint.KEY, text)
    assert checkpoint.find(image, lineage.VOLUME) is None


def test_a_snapshot_is_told_by_ids_that_are_never_used_again(
        pool: Pool, image: Image) -> None:
    found = []
    for _ in range(2):
        image.create_snapshot('snap')
        with pool.open('one', snapshot='snap', read_only=True) as opened:
            found.append(checkpoint.Origin.of(opened, 'snap'))
        image.remove_snapshot('snap')
    assert found[0] != found[1]
    assert found[0].image_id == image.id
    with pytest.raises(exception.SnapshotNotFound):
        checkpoint.Origin.of(image, 'snap')
