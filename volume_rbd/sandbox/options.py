# SPDX-License-Identifier: Apache-2.0
"""What a sandbox can be asked to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception


@dataclasses.dataclass(frozen=True)
class Options:
    """How a sandbox is built.

    ``ceph_only`` and ``osd_size_gib`` are settled when the sandbox is made;
    everything else may be changed by a later ``up``.

    :param ceph_only: no MariaDB, Keystone and Glance: a second cluster for
        tests that need another fsid.
    :param osd_size_gib: size of the sparse file under the only OSD.
    :param secure_hash: Glance hashes what is registered by location
        (``do_secure_hash``); it reads every byte in the background.
    :param glance_workers: gunicorn processes that serve Glance.
    :param glance_threads: threads in each of them.
    :param glance_reads_volumes: client.glance may read the volumes pool;
        without it Glance cannot open a clone of a volume.
    :param nova_reads_volumes: client.nova may read the volumes pool.
    :param nova_writes_images: client.nova may write into the images pool, so
        that a disk becomes an image by a clone.
    :param show_multiple_locations: the old location API of Glance.
    :param quick_monitor: the monitor waits 50 ms, not a second, to batch
        changes: each snapshot is one. For tests, never for figures.
    :param cinder: RabbitMQ and Cinder as well.
    :param cinder_eventlet: Cinder's processes are patched by eventlet, as
        they are by default; else they run native threads.
    :param etc_ceph: the keyrings that os-brick looks for lie in /etc/ceph
        while the sandbox is up.
    """

    ceph_only: bool = False
    osd_size_gib: int = 40
    secure_hash: bool = True
    glance_workers: int = 2
    glance_threads: int = 8
    glance_reads_volumes: bool = True
    nova_reads_volumes: bool = True
    nova_writes_images: bool = False
    show_multiple_locations: bool = False
    quick_monitor: bool = False
    cinder: bool = False
    cinder_eventlet: bool = True
    etc_ceph: bool = False

    def __post_init__(self) -> None:
        for field in ('osd_size_gib', 'glance_workers', 'glance_threads'):
            if getattr(self, field) < 1:
                raise exception.ConfigurationError(
                    f'The sandbox option {field} must be at least 1.',
                    remedy='Give a positive number.',
                )
        if self.ceph_only and self.cinder:
            raise exception.ConfigurationError(
                'A sandbox of Ceph only has no Cinder.',
                remedy='Leave ceph_only or cinder out.')

    def to_json(self) -> dict[str, Any]:
        """All options as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Options:
        """Options from a state file; what this release lacks is dropped."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})
