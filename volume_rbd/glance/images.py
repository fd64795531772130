# SPDX-License-Identifier: Apache-2.0
"""Glance's JSON becomes :mod:`volume_rbd.model`'s values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from volume_rbd import model

# What has a field of its own in GlanceImage, and what only tells a client
# where to send the next request.
_FIELDS = frozenset((
    'id', 'name', 'status', 'disk_format', 'container_format', 'size',
    'virtual_size', 'min_disk', 'owner', 'checksum', 'os_hash_algo',
    'os_hash_value', 'stores', 'locations', 'direct_url'))
_LINKS = frozenset(('self', 'file', 'schema', 'first', 'next'))


def image_from_json(raw: Mapping[str, Any]) -> model.GlanceImage:
    """An image record as Glance answers it."""
    return model.GlanceImage(
        id=raw['id'],
        name=raw.get('name'),
        status=raw['status'],
        disk_format=raw.get('disk_format'),
        container_format=raw.get('container_format'),
        size_bytes=raw.get('size'),
        virtual_size_bytes=raw.get('virtual_size'),
        min_disk_gib=raw.get('min_disk') or 0,
        owner=raw.get('owner'),
        checksum=raw.get('checksum'),
        os_hash_algo=raw.get('os_hash_algo'),
        os_hash_value=raw.get('os_hash_value'),
        stores=_split(raw.get('stores')),
        locations=shown_locations(raw),
        properties={
            key: as_text(value) for key, value in raw.items()
            if key not in _FIELDS | _LINKS and value is not None})


def shown_locations(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The URLs in ``locations``, then ``direct_url`` unless it is there."""
    urls = list(location_urls(raw.get('locations') or ()))
    direct = raw.get('direct_url')
    if direct and direct not in urls:
        urls.append(direct)
    return tuple(urls)


def location_urls(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(row['url'] for row in rows if row.get('url'))


def store_from_json(raw: Mapping[str, Any]) -> model.StoreInfo:
    """A row of stores-info-detail.

    ``default`` and ``read-only`` are the string "true" and only there when
    they are; ``properties`` are those of the store's driver, and ``fsid`` is
    null where Glance could not ask the cluster.
    """
    properties = raw.get('properties') or {}
    chunk_size = properties.get('chunk_size')
    return model.StoreInfo(
        id=raw['id'],
        type=raw.get('type') or '',
        is_default=_is_true(raw.get('default')),
        is_read_only=_is_true(raw.get('read-only')),
        pool=properties.get('pool') or None,
        fsid=properties.get('fsid') or None,
        chunk_size_bytes=int(chunk_size) if chunk_size else None)


def task_from_json(raw: Mapping[str, Any]) -> dict[str, str]:
    """A task, with nothing missing: what is unknown is empty."""
    task = {key: as_text(raw.get(key) or '')
            for key in ('id', 'type', 'status', 'message', 'request_id')}
    task['url'] = as_text((raw.get('input') or {}).get('loc_url') or '')
    return task


def as_text(value: Any) -> str:
    """A property's value as a string; JSON for what is none: ``true``."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_true(value: Any) -> bool:
    return str(value).lower() == 'true'


def _split(stores: Any) -> tuple[str, ...]:
    """Glance writes them with commas."""
    names = str(stores or '').split(',')
    return tuple(name.strip() for name in names if name.strip())
