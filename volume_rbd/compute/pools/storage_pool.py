# SPDX-License-Identifier: Apache-2.0
"""One of libvirt's storage pools, by its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from volume_rbd import exception
from volume_rbd.compute import xml
from volume_rbd.compute.pools import bindings
from volume_rbd.compute.pools.connection import Connection


@dataclasses.dataclass(frozen=True)
class PoolState:
    """:param target: the folder, or the ceph_pool.
    :param done: made, changed or started by whoever ensured it; '' where all
        was as it is.
    """

    name: str
    kind: str
    uuid: str
    target: str
    is_active: bool
    done: str = ''


class StoragePool:
    """:param name: it need not be there yet."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    # -- the pool ---------------------------------------------------------
    def ensure(self, wanted: xml.Pool) -> PoolState:
        """Defined, started, and started again with libvirtd. Idempotent.

        One that reaches the same data in another way (monitors, user) is
        changed to *wanted*.

        :raises StoragePoolConflict: one of that name is of other data, and
            is not touched.
        :raises SecretNotFound, AccessDenied, ClusterUnavailable: it does not
            start.
        """
        with self._using('define') as conn:
            found = bindings.find(conn.storagePoolLookupByName, self.name)
            done = '' if found else 'made'
            if found is None:
                found = self._define(conn, wanted)
            known = _read(found)
            if not _is_same_data(known, wanted):
                raise exception.StoragePoolConflict(
                    f'The storage_pool {self.name!r} is of type '
                    f'{known.kind} over {known.path or known.source}, not '
                    f'of type {wanted.kind} over '
                    f'{wanted.path or wanted.source}.')
            if not _is_same_way(known, wanted):
                if found.isActive():
                    found.destroy()  # it stops; nothing is removed
                found = conn.storagePoolDefineXML(xml.build_pool(
                    dataclasses.replace(wanted, uuid=known.uuid)), 0)
                done = 'changed'
            if not found.autostart():
                found.setAutostart(1)
        if self.start():
            done = done or 'started'
        return dataclasses.replace(self.state(), done=done)

    def start(self) -> bool:
        """libvirt looks at every volume then. Idempotent.

        :returns: whether it was not started before.
        :raises StoragePoolNotFound:
        :raises SecretNotFound, AccessDenied, ClusterUnavailable: it does not
            start.
        """
        with self._using('start') as conn:
            pool = conn.storagePoolLookupByName(self.name)
            if pool.isActive():
                return False
            try:
                pool.create(0)
            except bindings.libvirt().libvirtError:
                if not pool.isActive():  # nor has another process started it
                    raise
            return True

    def _define(self, conn: Any, wanted: xml.Pool) -> Any:
        libvirt = bindings.libvirt()
        try:
            return conn.storagePoolDefineXML(xml.build_pool(wanted), 0)
        except libvirt.libvirtError as error:
            # Another process was quicker, or it is another pool's data.
            found = bindings.find(conn.storagePoolLookupByName, self.name)
            if found is not None:
                return found
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
                raise exception.StoragePoolConflict(
                    f'The storage_pool {self.name!r} cannot be defined: '
                    f'{error}.') from error
            raise

    def state(self) -> PoolState:
        """:raises StoragePoolNotFound:"""
        with self._using('look up') as conn:
            pool = conn.storagePoolLookupByName(self.name)
            known = _read(pool)
            return PoolState(
                name=self.name, kind=known.kind, uuid=known.uuid or '',
                target=known.path or known.source or '',
                is_active=bool(pool.isActive()))

    def is_ready(self) -> bool:
        """Defined and started, and libvirtd answers."""
        try:
            return self.state().is_active
        except (exception.NotFound, exception.Unavailable):
            return False

    def check(self) -> None:
        """:raises StoragePoolNotFound, StoragePoolInactive: it cannot be
            used."""
        if not self.state().is_active:
            raise exception.StoragePoolInactive(
                f'The storage_pool {self.name!r} is not started.')

    def refresh(self) -> None:
        """libvirt looks at every volume. Where that fails it stops the pool.

        :raises StoragePoolInactive:
        """
        with self._using('refresh') as conn:
            conn.storagePoolLookupByName(self.name).refresh(0)

    def remove(self) -> None:
        """libvirt forgets the pool; its volumes stay. Idempotent."""
        with self._using('remove') as conn:
            pool = bindings.find(conn.storagePoolLookupByName, self.name)
            if pool is not None:
                if pool.isActive():
                    pool.destroy()
                pool.undefine()

    # -- volumes -------------------------------------------------------------
    def names(self) -> list[str]:
        """What libvirt knows; it looks at nothing for that."""
        with self._using('list the volumes of') as conn:
            pool = conn.storagePoolLookupByName(self.name)
            return sorted(pool.listVolumes())

    def knows(self, volume: str) -> bool:
        """libvirt has it by name; it looks at nothing for that."""
        with self._using('look up a volume in') as conn:
            return _find_volume(conn, self.name, volume) is not None

    def find(self, volume: str) -> xml.Volume | None:
        """As it is now. None: libvirt does not know it, or it is gone."""
        with self._using('look up a volume in') as conn:
            found = _find_volume(conn, self.name, volume)
            text = found and bindings.find(found.XMLDesc, 0)
            return xml.read_volume(text) if text else None

    def volumes(self) -> Iterator[xml.Volume]:
        for name in self.names():
            found = self.find(name)
            if found is not None:
                yield found

    def find_by_path(self, path: str) -> xml.Volume | None:
        """In whatever pool it is."""
        with self._using('look up a volume beside') as conn:
            found = bindings.find(conn.storageVolLookupByPath, path)
            text = found and bindings.find(found.XMLDesc, 0)
            return xml.read_volume(text) if text else None

    # -- changes -------------------------------------------------------------
    def create(self, text: str, name: str) -> None:
        """A volume by virStorageVolCreateXML.

        :raises StorageVolumeExists:
        """
        with self._using('make', name) as conn:
            conn.storagePoolLookupByName(self.name).createXML(text, 0)

    def create_from(self, text: str, name: str, source: StoragePool,
                    source_name: str) -> None:
        """A copy of a volume by virStorageVolCreateXMLFrom.

        libvirt may take the size of the source instead of the one asked for:
        see :meth:`grow`.
        """
        with self._using('make', name) as conn:
            volume = conn.storagePoolLookupByName(
                source.name).storageVolLookupByName(source_name)
            conn.storagePoolLookupByName(self.name).createXMLFrom(
                text, volume, 0)

    def grow(self, volume: str, size_bytes: int) -> None:
        """Nothing happens to one that is as large or larger."""
        with self._using('resize', volume) as conn:
            found = conn.storagePoolLookupByName(
                self.name).storageVolLookupByName(volume)
            if xml.read_volume(found.XMLDesc(0)).capacity_bytes < size_bytes:
                found.resize(size_bytes, 0)

    def delete(self, volume: str) -> None:
        """:raises StorageVolumeNotFound:"""
        with self._using('delete', volume) as conn:
            conn.storagePoolLookupByName(
                self.name).storageVolLookupByName(volume).delete(0)

    def _using(self, what: str, volume: str | None = None) -> Any:
        where = f'storage_pool {self.name!r}'
        return self._connection.storage(
            what, where if volume is None else f'{volume!r} in {where}')


def _find_volume(conn: Any, pool: str, volume: str) -> Any:
    # A pool that is not there is an error, a volume is not.
    return bindings.find(
        conn.storagePoolLookupByName(pool).storageVolLookupByName, volume)


def _read(pool: Any) -> xml.Pool:
    inactive = bindings.libvirt().VIR_STORAGE_XML_INACTIVE
    return xml.read_pool(pool.XMLDesc(inactive))


def _is_same_data(one: xml.Pool, other: xml.Pool) -> bool:
    return (one.kind, one.path, one.source) == (
        other.kind, other.path, other.source)


def _is_same_way(one: xml.Pool, other: xml.Pool) -> bool:
    return (set(one.hosts), one.user, one.secret_uuid) == (
        set(other.hosts), other.user, other.secret_uuid)
