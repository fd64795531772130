# SPDX-License-Identifier: Apache-2.0
"""libvirt's XML, written and read: pools, volumes, secrets, disks of guests.

Text in, text out: nothing here talks to libvirt. The formats are those of
libvirt.org/formatstorage.html, formatsecret.html and formatdomain.html.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

#: What stands for a monitor or another server.
Host = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Backing:
    """What a volume shares data with.

    :param format: None where the volume does not say it.
    """

    path: str
    format: str | None = None


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of a storage_pool.

    :param path: of the file; ``ceph_pool/rbd_image`` for one in RBD.
    :param format: what libvirt takes its bytes for: qcow2, raw …
    :param allocation_bytes: what it uses; None where nobody has counted.
    """

    name: str
    path: str
    format: str
    capacity_bytes: int
    allocation_bytes: int | None = None
    backing: Backing | None = None


@dataclasses.dataclass(frozen=True)
class Pool:
    """A storage_pool as it is defined.

    :param kind: dir, rbd …
    :param path: the folder of one of kind dir.
    :param source: the ceph_pool of one of kind rbd; *hosts*, *user* and
        *secret_uuid*: how it is reached.
    """

    name: str
    kind: str
    uuid: str | None = None
    path: str | None = None
    source: str | None = None
    hosts: tuple[Host, ...] = ()
    user: str | None = None
    secret_uuid: str | None = None


@dataclasses.dataclass(frozen=True)
class Secret:
    """:param usage: the name that libvirt keeps unique among Ceph's."""

    uuid: str
    usage: str


# -- pools --------------------------------------------------------------------
def build_pool(pool: Pool) -> str:
    """For virStoragePoolDefineXML; of kind dir or rbd."""
    root = ET.Element('pool', type=pool.kind)
    _add(root, 'name', pool.name)
    if pool.uuid:
        _add(root, 'uuid', pool.uuid)
    if pool.kind == 'dir':
        _add(_add(root, 'target'), 'path', pool.path)
        return _render(root)
    source = _add(root, 'source')
    _add(source, 'name', pool.source)
    # libvirt puts the brackets around IPv6 itself, and reads no ceph.conf.
    _add_hosts(source, pool.hosts)
    if pool.user:
        auth = _add(source, 'auth', type='ceph', username=pool.user)
        _add(auth, 'secret', uuid=pool.secret_uuid or '')
    # Or a refresh asks for the used space of each rbd_image, all its objects.
    _add(_add(root, 'refresh'), 'volume', allocation='capacity')
    return _render(root)


def read_pool(text: str) -> Pool:
    root = _parse(text)
    auth = root.find('source/auth')
    return Pool(
        name=root.findtext('name', ''), kind=root.get('type', ''),
        uuid=root.findtext('uuid'), path=root.findtext('target/path'),
        source=root.findtext('source/name'),
        hosts=tuple((host.get('name', ''), host.get('port', ''))
                    for host in root.findall('source/host')),
        user=None if auth is None else auth.get('username'),
        secret_uuid=None if auth is None else _get(auth, 'secret', 'uuid'))


# -- volumes ------------------------------------------------------------------
def build_volume(name: str, disk_format: str, capacity_bytes: int, *,
                 owner: tuple[int, int] | None = None,
                 backing: Backing | None = None) -> str:
    """For virStorageVolCreateXML: space is taken when it is written to.

    :param owner: uid and gid of the file, which nobody else may read; None:
        whatever libvirtd is.
    :param backing: the format of it must be given: to guess it from its
        bytes is to believe whoever wrote them.
    """
    root = ET.Element('volume')
    _add(root, 'name', name)
    _add(root, 'capacity', str(capacity_bytes), unit='bytes')
    _add(root, 'allocation', '0', unit='bytes')
    target = _add(root, 'target')
    _add(target, 'format', type=disk_format)
    if owner is not None:
        permissions = _add(target, 'permissions')
        _add(permissions, 'mode', '0600')
        _add(permissions, 'owner', str(owner[0]))
        _add(permissions, 'group', str(owner[1]))
    if backing is not None:
        if backing.format is None:
            raise ValueError(f'{backing.path} needs a format')
        store = _add(root, 'backingStore')
        _add(store, 'path', backing.path)
        _add(store, 'format', type=backing.format)
    return _render(root)


def read_volume(text: str) -> Volume:
    root = _parse(text)
    store = root.find('backingStore')
    path = None if store is None else store.findtext('path')
    backing = None
    if store is not None and path:
        backing = Backing(path, _get(store, 'format', 'type'))
    return Volume(
        name=root.findtext('name', ''),
        path=root.findtext('target/path', ''),
        format=_get(root, 'target/format', 'type') or 'raw',
        capacity_bytes=_read_bytes(root, 'capacity'),
        allocation_bytes=_read_bytes(root, 'allocation'), backing=backing)


# -- secrets ------------------------------------------------------------------
def build_secret(secret: Secret) -> str:
    """For virSecretDefineXML. The value is set apart, and never shown:
    private. It outlives libvirtd, so that pools start with it."""
    root = ET.Element('secret', ephemeral='no', private='yes')
    _add(root, 'uuid', secret.uuid)
    _add(_add(root, 'usage', type='ceph'), 'name', secret.usage)
    return _render(root)


def read_secret(text: str) -> Secret:
    root = _parse(text)
    return Secret(root.findtext('uuid', ''), root.findtext('usage/name', ''))


# -- disks of guests ----------------------------------------------------------
def build_volume_disk(pool: str, volume: str, disk_format: str, device: str,
                      bus: str = 'virtio') -> str:
    """A ``<disk type='volume'>``, for a storage_pool of files.

    :param device: what the guest sees it as: ``vda``.
    """
    root = _start_disk('volume', disk_format)
    _add(root, 'source', pool=pool, volume=volume)
    _add(root, 'target', dev=device, bus=bus)
    return _render(root)


def build_network_disk(name: str, hosts: Iterable[Host], device: str,
                       bus: str = 'virtio', *, user: str | None = None,
                       secret_uuid: str = '') -> str:
    """A ``<disk type='network'>``, for RBD: libvirt refuses ``volume`` there.

    :param name: ``ceph_pool/rbd_image``.
    :param hosts: all monitors, IPv6 without brackets.
    """
    root = _start_disk('network', 'raw')
    source = _add(root, 'source', protocol='rbd', name=name)
    _add_hosts(source, hosts)
    if user:
        auth = _add(source, 'auth', username=user)
        _add(auth, 'secret', type='ceph', uuid=secret_uuid)
    _add(root, 'target', dev=device, bus=bus)
    return _render(root)


def _start_disk(kind: str, disk_format: str) -> ET.Element:
    root = ET.Element('disk', type=kind, device='disk')
    _add(root, 'driver', name='qemu', type=disk_format, discard='unmap')
    return root


# -- all ----------------------------------------------------------------------
def _add(parent: ET.Element, tag: str, text: str | None = None,
         **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _add_hosts(parent: ET.Element, hosts: Iterable[Host] | Sequence[Host]
               ) -> None:
    for name, port in hosts:
        _add(parent, 'host', name=name.strip('[]'), port=port)


def _render(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding='unicode')


def _parse(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - of libvirtd, which is root


def _get(parent: ET.Element, path: str, attribute: str) -> str | None:
    found = parent.find(path)
    return None if found is None else found.get(attribute)


def _read_bytes(root: ET.Element, tag: str) -> int:
    # libvirt tells everything in bytes.
    return int(root.findtext(tag) or 0)
