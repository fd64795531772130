# SPDX-License-Identifier: Apache-2.0
"""Facts from which a plan clones; tests change one thing at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

from volume_rbd import model, plan

FSID = '11111111-2222-3333-4444-555555555555'
OTHER_FSID = '99999999-2222-3333-4444-555555555555'
IMAGE_ID = '8d0f0f5e-3c8a-4a42-9b1e-0d1f6a7c2b11'
STORE = model.StoreInfo('rbd1', 'rbd', is_default=True, pool='images',
                        fsid=FSID)
FILE_STORE = model.StoreInfo('file1', 'file')
GIB = model.GIB
BASE = plan.BaseFacts(
    model.SnapSpec('volumes', 'volume_rbd.base-' + IMAGE_ID, 'base'), GIB)


def url(fsid: str = FSID, pool: str = 'images', image: str = IMAGE_ID,
        snapshot: str = 'snap') -> str:
    return model.RBDLocation(fsid, pool, image, snapshot).url


def place(*, size_bytes: int = GIB, depth: int = 0,
          problem: plan.Reason | None = None, **parts: str
          ) -> plan.LocationFacts:
    """A location as it is after it was judged and opened."""
    text = url(**parts)
    return plan.LocationFacts(text, model.RBDLocation.from_url(text),
                              problem, size_bytes, depth)


IMAGE = model.GlanceImage(
    IMAGE_ID, 'debian', 'active', disk_format='raw', container_format='bare',
    size_bytes=GIB)


def image(**changes: Any) -> model.GlanceImage:
    return dataclasses.replace(IMAGE, **changes)


def create_facts(**changes: Any) -> plan.CreateFacts:
    """:param changes: fields of CreateFacts; those of the image begin with
    ``image_``."""
    of_image = {key.removeprefix('image_'): value
                for key, value in changes.items() if key.startswith('image_')}
    rest = {key: value for key, value in changes.items()
            if not key.startswith('image_')}
    return dataclasses.replace(
        plan.CreateFacts(image(**of_image), (place(),)), **rest)


def fetch_facts(**changes: Any) -> plan.FetchFacts:
    return dataclasses.replace(
        plan.FetchFacts(image(), (place(),)), **changes)


def upload_facts(**changes: Any) -> plan.UploadFacts:
    return dataclasses.replace(
        plan.UploadFacts(size_bytes=GIB, fsid=FSID, clone_enabled=True,
                         stores=(FILE_STORE, STORE)), **changes)


#: A release that lacks one strategy.
WITHOUT_COPY = plan.BUILT - {plan.Strategy.COPY}
