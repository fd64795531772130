# SPDX-License-Identifier: Apache-2.0
"""What is there, as one value for each thing, and what changed.

Names are those that every run has: ``SOURCE`` for the image it works on,
``NEW`` for whatever it made. So what a run leaves can be compared with what
another one, which nobody killed, has left.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults import operations
from tests.functional import content
from volume_rbd.ceph import bindings

if TYPE_CHECKING:
    from tests.faults.lane import Lane

View = Mapping[str, str]
IMAGES = 'images'
NAMESPACE = 'volume_rbd.jobs'
#: Records that stay, with the keys that may.
_KEPT_RECORDS = {'index': re.compile('format'),
                 'open': re.compile('format'),
                 'history': re.compile('.*')}
_QCOW2 = b'QFI\xfb'
_LUKS = b'LUKS\xba\xbe'
_LUKS_PAYLOAD = struct.Struct('>I'), 104  # in sectors of 512 bytes
_OBJECT_KINDS = ('rbd_data', 'rbd_header', 'rbd_object_map')


def look(lane: Lane, run: str, image: str | None) -> View:
    """:param image: the id of the one that the run works on."""
    found: dict[str, str] = {}
    for items in (_pool(lane, lane.pool), _pool(lane, IMAGES, run, image),
                  _trash(lane, lane.pool), _trash(lane, IMAGES, run),
                  _metadata(lane), _objects(lane), _records(lane),
                  _glance(lane, run, image), _files(lane, run)):
        found.update(items)
    return {_name(lane, run, image, key): _name(lane, run, image, value)
            for key, value in found.items()}


def _name(lane: Lane, run: str, image: str | None, text: str) -> str:
    if image:
        text = text.replace(image, 'SOURCE')
    text = re.sub(rf'\b{lane.pool}\b', 'volumes', text)
    return re.sub(rf'{run}-[0-9a-f]{{4}}-[0-9a-f-]{{22}}', 'NEW', text)


def differences(before: View, after: View) -> dict[str, tuple[str, str]]:
    """What is new, gone or another, each with what it was and what it is."""
    return {key: (before.get(key, ''), after.get(key, ''))
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key)}


# -- rbd_images ---------------------------------------------------------------

def _pool(lane: Lane, pool: str, run: str = '', image: str | None = None
          ) -> Iterator[tuple[str, str]]:
    """Everything of the pool; with *run*, what is of that or *image*."""
    for name in lane.cluster.names(pool):
        if not run or run in name or name == image:
            yield f'{pool}/{name}', _describe(lane, pool, name)
            yield from _snapshots(lane, pool, name)


def _describe(lane: Lane, pool: str, name: str) -> str:
    with lane.cluster.open(pool, name, read_only=True) as opened:
        head = opened.read(0, 512) if opened.size() else b''
        is_file = head.startswith(_QCOW2)
        facts = {'size': 'a file' if is_file else opened.size(),
                 **_marks(opened)}
        if is_file:
            facts['content'] = _inside_of_qcow2(lane, pool, name)
        elif head.startswith(_LUKS):
            facts['sealed content'] = (
                _inside_of_luks(lane, pool, name)
                if _has_payload(opened, head) else 'none')
        else:
            facts['content'] = lane.cluster.digest(pool, name)[:16]
    facts['parent'] = lane.cluster.parent(pool, name)
    return _text(facts)


def _marks(image: Any) -> dict[str, object]:
    """Whose it says that it is, and what else is written on it."""
    metadata = dict(image.metadata_list())
    mark = json.loads(metadata.pop('volume_rbd.lineage', '{}'))
    is_own = mark.get('image_id') == image.id()
    return {'mark': {key: mark[key] for key in ('kind', 'state', 'origin')}
            if is_own else None, 'metadata': sorted(metadata)}


def _snapshots(lane: Lane, pool: str, name: str
               ) -> Iterator[tuple[str, str]]:
    with lane.cluster.open(pool, name, read_only=True) as opened:
        for found in opened.list_snaps():
            if found['namespace'] == 2:
                shown = f'({found["trash"]["original_name"]})'
                facts: dict[str, object] = {'in trash': True}
            else:
                shown = found['name']
                facts = {'protected': opened.is_protected_snap(shown)}
            facts['size'] = ('' if _is_file(opened) else found['size'])
            yield f'{pool}/{name}@{shown}', _text(facts)


def _is_file(image: Any) -> bool:
    return bool(image.size()) and image.read(0, 4) == _QCOW2


def _inside_of_qcow2(lane: Lane, pool: str, name: str) -> str:
    """The hash of the disk inside of a qcow2 file, which qemu finds good."""
    source = f'rbd:{pool}/{name}:conf={lane.cluster.conf}:id=admin'
    return (_complaint('check', '-q', '-f', 'qcow2', source)
            or _hash('-f', 'qcow2', source))


def _has_payload(image: Any, head: bytes) -> bool:
    """What nobody has written yet decrypts to anything."""
    layout, offset = _LUKS_PAYLOAD
    [sectors] = layout.unpack_from(head, offset)
    found: list[int] = []
    image.diff_iterate(0, image.size(), None,
                       lambda at, length, exists: found.append(at + length))
    return max(found) > sectors * 512


def _inside_of_luks(lane: Lane, pool: str, name: str) -> str:
    """The hash of what the source's size holds of the disk inside."""
    with tempfile.NamedTemporaryFile() as key:
        Path(key.name).write_text(operations.PASSPHRASE)
        return _hash(
            '--object', f'secret,id=key,format=raw,file={key.name}',
            'json:' + json.dumps({
                'driver': 'raw', 'size': operations.SIZE, 'file': {
                    'driver': 'luks', 'key-secret': 'key', 'file': {
                        'driver': 'rbd', 'pool': pool, 'image': name,
                        'conf': lane.cluster.conf, 'user': 'admin'}}}))


def _hash(*words: str) -> str:
    """Of the disk that qemu-img finds there."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / 'raw'
        return (_complaint('convert', *words, '-O', 'raw', str(raw))
                or content.digest_of_bytes(raw.read_bytes())[:16])


def _complaint(*words: str) -> str:
    """Of qemu-img; empty if it has none."""
    done = subprocess.run(['qemu-img', *words], capture_output=True,
                          text=True, timeout=60)
    return f'broken: {done.stderr.strip()[-100:]}' if done.returncode else ''


def _trash(lane: Lane, pool: str, run: str = ''
           ) -> Iterator[tuple[str, str]]:
    for entry in lane.cluster.trash(pool):
        if not run or run in entry['name']:
            yield f'{pool} trash {entry["name"]}', 'there'


# -- beside them --------------------------------------------------------------

def _metadata(lane: Lane) -> Iterator[tuple[str, str]]:
    for key, _ in bindings.rbd().RBD().pool_metadata_list(
            lane.cluster.ioctx(lane.pool)):
        yield f'metadata of the pool: {_kind(key)}', 'there'


def _kind(key: str) -> str:
    return key.rpartition('.')[0] or key


def _objects(lane: Lane) -> Iterator[tuple[str, str]]:
    """Objects of the lane's pool that are of no rbd_image."""
    for item in lane.cluster.orphans(lane.pool):
        yield f'object {_kind(item)}', 'there'


def _records(lane: Lane) -> Iterator[tuple[str, str]]:
    """Of jobs that are not finished; what is kept for good does not count."""
    for name, keys in lane.cluster.records(lane.pool, NAMESPACE).items():
        kept = _KEPT_RECORDS.get(name)
        if kept is None:
            yield f'record {name}', 'there'
            continue
        for key in keys:
            if not kept.fullmatch(key):
                yield f'record {name}: {key}', 'there'


# -- Glance -------------------------------------------------------------------

def _glance(lane: Lane, run: str, image: str | None
            ) -> Iterator[tuple[str, str]]:
    rows = lane.house._sql(
        'glance', 'SELECT id, status, size, checksum, owner, disk_format '
        'FROM images WHERE deleted = 0 AND (id LIKE %s OR id = %s)',
        f'{run}%', image or '')
    for identity, status, size, checksum, owner, disk_format in rows:
        urls = lane.house._sql(
            'glance', 'SELECT value FROM image_locations WHERE deleted = 0 '
            'AND image_id = %s', identity)
        is_fixed = disk_format == 'raw'  # files of one disk differ
        yield f'glance {identity}', _text({
            'status': status, 'owner': owner, 'disk_format': disk_format,
            'size': size if is_fixed else 'any',
            # Glance computes that of a clone later.
            'checksum': checksum if is_fixed and checksum not in (
                None, lane.sources.checksum) else 'fits',
            'locations': [str(url).partition('images/')[2] or str(url)[:5]
                          for (url,) in urls]})


def _files(lane: Lane, run: str) -> Iterator[tuple[str, str]]:
    folder = Path(lane.house.sandbox.folder) / 'glance'
    for part in ('file', 'staging', 'tasks'):
        for path in (folder / part).rglob(f'{run}*'):
            data = path.read_bytes()
            yield f'file {part}/{path.name}', _text({
                'content': content.digest_of_bytes(data)[:16],
                'size': len(data)})


def _text(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, sort_keys=True)
