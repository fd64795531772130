# SPDX-License-Identifier: Apache-2.0
"""Live migration: a guest finds its disks by the monitors that its XML names.

It keeps the addresses that it was started with, and the monitors may have
moved since. So the XML that goes to the other host names the live ones. Every
other byte of it stays: users and secrets, and disks of other clusters and
protocols.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from xml.parsers import expat
from xml.sax import saxutils

from volume_rbd import exception
from volume_rbd.compute.config import ComputeConfig
from volume_rbd.driver import RBDDriver

#: (host, port); IPv6 without brackets, as libvirt has it in a disk.
Monitor = tuple[str, str]
_DEFAULT_PORT = '6789'


@dataclasses.dataclass
class Source:
    """An rbd_image in the XML of a guest.

    :param name: ``pool/image``.
    :param monitors: host (without brackets) and port of each.
    :param secret_uuid: None where it has none.
    :param spans: from and to of each ``host`` element, in bytes.
    """

    name: str
    monitors: list[Monitor] = dataclasses.field(default_factory=list)
    secret_uuid: str | None = None
    spans: list[tuple[int, int]] = dataclasses.field(default_factory=list)


def migrate_xml(xml: str, config: ComputeConfig, driver: RBDDriver) -> str:
    """The XML of a guest with the live monitors of the agent's cluster.

    A disk is of that cluster where it has the cluster's secret or names one
    of its monitors; without a secret also where it is there.

    :raises InvalidInput: it is no XML.
    :raises ClusterUnavailable: the monitors cannot be asked.
    """
    monitors = driver.connections.monitors()
    secret = config.disks.secret_uuid or driver.cluster.fsid

    def is_ours(source: Source) -> bool:
        if source.secret_uuid == secret or set(monitors) & set(
                source.monitors):
            return True
        return source.secret_uuid is None and _is_there(driver, source.name)

    return rewrite_monitors(xml, monitors, is_ours)


def _is_there(driver: RBDDriver, name: str) -> bool:
    pool, _, image = name.partition('/')
    try:
        return driver.cluster.pool(pool).has_image(image)
    except (exception.PoolNotFound, exception.CephPermissionDenied):
        return False


def rewrite_monitors(xml: str, monitors: Sequence[Monitor],
                     is_ours: Callable[[Source], bool]) -> str:
    """Let the rbd_images that are ours be found by *monitors*.

    :param is_ours: of an rbd_image of a disk, or of what a disk is backed by
        or mirrored to.
    :raises InvalidInput: *xml* is no XML.
    """
    data = xml.encode()
    pieces, at = [], 0
    for source in find_sources(data):
        if not source.spans or not is_ours(source):
            continue
        start, end = source.spans[0][0], source.spans[-1][1]
        pieces += [data[at:start], _render(monitors, _indent(data, start))]
        at = end
    return b''.join([*pieces, data[at:]]).decode()


def _indent(data: bytes, start: int) -> bytes:
    """What is between the line before and the element."""
    before = data[:start]
    return before[len(before.rstrip()):]


def _render(monitors: Sequence[Monitor], indent: bytes) -> bytes:
    return indent.join(
        f"<host name='{saxutils.escape(host)}' port='{port}'/>".encode()
        for host, port in monitors)


def find_sources(data: bytes) -> Iterator[Source]:
    """The rbd_images of a guest, in the order of its XML.

    :raises InvalidInput: it is no XML.
    """
    finder = _Finder(data)
    try:
        finder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise exception.InvalidInput(
            f'This is not the XML of a guest: {error}.',
            remedy='Give what "virsh dumpxml" prints.') from None
    yield from finder.found


class _Finder:
    """Hears of each element, and where it is."""

    def __init__(self, data: bytes) -> None:
        self.found: list[Source] = []
        self.parser = expat.ParserCreate('utf-8')
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self._data = data
        self._source: Source | None = None
        self._host_at = 0
        # Of the disk: libvirt also takes it beside the source.
        self._secret_uuid: str | None = None
        self._of_disk: list[Source] = []

    @staticmethod
    def _refuse(*_: object) -> None:
        raise exception.InvalidInput(
            'This is not the XML of a guest: it has a document type.')

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == 'disk':
            self._secret_uuid, self._of_disk = None, []
        elif name == 'source' and attributes.get('protocol') == 'rbd':
            self._source = Source(attributes.get('name', ''))
            self._of_disk.append(self._source)
            self.found.append(self._source)
        elif name == 'host' and self._source is not None:
            self._host_at = self.parser.CurrentByteIndex
            self._source.monitors.append((
                attributes.get('name', '').strip('[]'),
                attributes.get('port', _DEFAULT_PORT)))
        elif name == 'secret' and self._source is not None:
            self._source.secret_uuid = attributes.get('uuid')
        elif name == 'secret':
            self._secret_uuid = attributes.get('uuid')

    def _end(self, name: str) -> None:
        if name == 'disk':
            for source in self._of_disk:
                source.secret_uuid = source.secret_uuid or self._secret_uuid
        elif name == 'source':
            self._source = None
        elif name == 'host' and self._source is not None:
            # Of <host/> the end; of <host></host> where the second begins.
            end = self.parser.CurrentByteIndex
            if self._data.startswith(b'</host', end):
                end = self._data.index(b'>', end) + 1
            self._source.spans.append((self._host_at, end))
