# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd sandbox demo``: see it happen, and check every byte.

Acts as a plain member of a project: what is privileged is done by the
service's credentials, as in a real cloud.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import tenacity
from rich import box as rich_box
from rich import console as rich_console
from rich import table as rich_table

from volume_rbd import exception, manager, model, plan, progress
from volume_rbd.cli import sandbox as sandbox_cli
from volume_rbd.copying import outbound
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result
from volume_rbd.sandbox import Options, Sandbox

_IMAGE_BYTES = 512 * model.MIB
_VOLUME_GIB = 1
_FILES_BYTES = 200 * model.MIB
_WRITE_BYTES = 64 * model.MIB
_SMALL_BYTES = 32 * model.MIB
_HASHED_WITHIN_S = 60.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    :param size: of the volume or image, in bytes.
    :param data: what of it is data and no hole, in bytes.
    :param ratio: how many times as fast as the slowest way to do the same;
        None where there is only one.
    :param verified: the content was compared by hash, and was right.
    """

    operation: str
    strategy: str
    reason: str
    size: int
    data: int
    seconds: float
    verified: bool
    ratio: float | None = None


class SandboxDemo(sandbox_cli.OfSandbox):
    """Show what this does, on a real Ceph with a real Glance.

    Starts the sandbox if it does not run, makes an image with a file system,
    and goes through both operations in every way; prints a table and leaves
    it in FOLDER/demo.json. Stops the sandbox again if it had to start it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--keep', action='store_true',
                            help='leave the sandbox running')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        sandbox = self.sandbox(parsed_args)
        status = sandbox.status()
        was_up, was_made = status.is_up, status.state != 'absent'
        out = rich_console.Console(file=self.app.stdout)
        if not out.is_terminal:
            out.width = 100
        try:
            # Hashing behind our back would only make the figures worse.
            sandbox.up(None if was_made else Options(secure_hash=False))
            rows = self._run(sandbox)
        finally:
            if not (was_up or parsed_args.keep):
                sandbox.down()
        target = sandbox.folder.parent / 'demo.json'
        target.write_text(json.dumps(
            [dataclasses.asdict(row) for row in rows], indent=2) + '\n')
        out.print(_table(rows))
        is_right = all(row.verified for row in rows)
        out.print('Every byte was compared by hash, and the pools are as '
                  'empty as before.' if is_right else
                  '[red]Something is not as it should be.[/red]')
        out.print(f'The table as JSON: {target}', soft_wrap=True)
        if not (was_up or parsed_args.keep):
            out.print('To play with it: volume-rbd sandbox up; '
                      'eval $(volume-rbd sandbox env)', soft_wrap=True)
        return 0 if is_right else 1

    @staticmethod
    def _run(sandbox: Sandbox) -> list[Row]:
        files = [sandbox.env()['VOLUME_RBD_CONFIG']]
        with manager.VolumeManager(
                files, environ=sandbox.env('member')) as volumes:
            return Demo(volumes).run()


class Demo:
    """One walk through everything; leaves nothing behind."""

    def __init__(self, volumes: manager.VolumeManager) -> None:
        self._plain = volumes.backend('ceph')
        self._fast = volumes.backend('optimized')
        self._glance = volumes.glance()
        self._rows: list[Row] = []
        self._tag = uuid.uuid4().hex[:6]
        self._images: list[str] = []
        self._volumes: list[str] = []

    def run(self) -> list[Row]:
        try:
            self._walk()
        finally:
            started = time.monotonic()
            self._clean()
        left = self._left()
        self._rows.append(Row(
            'purge', 'reclaim', 'nothing_left', 0, 0,
            time.monotonic() - started, verified=not left))
        return _with_ratios(self._rows)

    def _walk(self) -> None:
        with tempfile.TemporaryDirectory(prefix='volume-rbd-demo-') as folder:
            path = pathlib.Path(folder, 'disk.raw')
            _say(f'making an image with a file system ({_IMAGE_BYTES >> 20} '
                 'MiB)')
            _make_filesystem(path)
            expected = _hash_file(path)
            _say('giving it to Glance, once in its RBD store, once in its '
                 'file store')
            in_rbd = self._give_to_glance(path, 'rbd')
            in_file = self._give_to_glance(path, 'file')
            small_path = pathlib.Path(folder, 'small.raw')
            small_path.write_bytes(os.urandom(_SMALL_BYTES))
            small = self._give_to_glance(small_path, 'rbd')
            small_hash = _hash_file(small_path)
        self._create('base', in_rbd, expected, _IMAGE_BYTES)
        _say(f'writing {_WRITE_BYTES >> 20} MiB to the volume')
        self._write('base')
        now = self._hash_volume('base')
        cloned = self._upload('base', self._fast, now)
        copied = self._upload('base', self._plain, now)
        self._create('of-clone', cloned, now)
        self._create('of-upload', copied, now)
        self._create('of-file', in_file, expected, _IMAGE_BYTES)
        orders = list(itertools.permutations(('volume', 'image', 'clone')))
        _say(f'{len(orders)} times at once: a volume, an image by clone of '
             'it, a clone of that')
        with concurrent.futures.ThreadPoolExecutor(len(orders)) as pool:
            made = list(pool.map(
                lambda number: self._make_chain(number, small),
                range(len(orders))))
        for order, chain in zip(orders, made, strict=True):
            self._delete_in(order, chain, small_hash)

    # -- the operations ------------------------------------------------------
    def _create(self, name: str, image_id: str, expected: str,
                compared_bytes: int | None = None) -> None:
        name = f'demo-{self._tag}-{name}'
        _say(f'creating volume {name}')
        self._volumes.append(name)
        result = self._fast.images.create(
            model.VolumeSpec(name, _VOLUME_GIB * model.GIB), image_id)
        actual = self._hash(name, compared_bytes)
        self._note(result, actual == expected, name)

    def _upload(self, name: str, driver: RBDDriver, expected: str) -> str:
        name = f'demo-{self._tag}-{name}'
        word = 'on' if driver is self._fast else 'off'
        _say(f'uploading it, enable_clone_optimization {word}')
        result = driver.images.upload(
            model.VolumeSpec(name), ImageRequest(f'{name}-{word}'))
        image_id = str(result.values['image_id'])
        self._images.append(image_id)
        actual = hashlib.sha256()
        for chunk in self._glance.download(image_id):
            actual.update(chunk)
        self._note(result, actual.hexdigest() == expected, name)
        return image_id

    def _make_chain(self, number: int, image_id: str) -> tuple[str, str, str]:
        """:returns: a volume, the image cloned from it, a clone of that."""
        volume, clone = (f'demo-{self._tag}-{number}-{word}'
                         for word in ('volume', 'clone'))
        self._volumes += [volume, clone]
        self._fast.images.create(
            model.VolumeSpec(volume, model.GIB), image_id)
        image = str(self._fast.images.upload(
            model.VolumeSpec(volume), ImageRequest(volume)
        ).values['image_id'])
        self._images.append(image)
        self._fast.images.create(model.VolumeSpec(clone, model.GIB), image)
        return volume, image, clone

    def _delete_in(self, order: tuple[str, ...],
                   chain: tuple[str, str, str], expected: str) -> None:
        """Delete a chain in *order*; what is still there keeps its data."""
        _say(f'deleting in the order {", ".join(order)}')
        volume, image, clone = chain
        ways: dict[str, Callable[[], Any]] = {
            'volume': lambda: self._fast.volumes.delete(volume),
            'image': lambda: self._delete_image(image),
            'clone': lambda: self._fast.volumes.delete(clone)}
        started = time.monotonic()
        is_right = True
        for word in order:
            ways[word]()
            if clone in self._fast.volumes.names():
                is_right &= self._hash(clone, _SMALL_BYTES) == expected
        self._rows.append(Row(
            'delete', '-', ','.join(order), model.GIB, 0,
            time.monotonic() - started, is_right))

    def _delete_image(self, image_id: str) -> None:
        """Glance 33 finds an image in use as long as it hashes it itself,
        which it does behind the back of whoever registered a location."""
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(exception.GlanceConflict),
            stop=tenacity.stop_after_delay(_HASHED_WITHIN_S),
            wait=tenacity.wait_fixed(0.5), reraise=True)(
                self._glance.delete_image, image_id)

    # -- bytes ---------------------------------------------------------------
    def _give_to_glance(self, path: pathlib.Path, store_id: str) -> str:
        image_id = str(uuid.uuid4())
        self._glance.create_image(
            image_id=image_id, name=f'demo-{self._tag}-{store_id}',
            disk_format='raw', container_format='bare')
        self._images.append(image_id)
        with path.open('rb') as data:
            self._glance.upload(image_id, data, store_id=store_id,
                                size_bytes=path.stat().st_size)
        return image_id

    def _write(self, name: str) -> None:
        pool = self._fast.cluster.pool(self._fast.config.pool)
        with pool.open(f'demo-{self._tag}-{name}') as image:
            step = 4 * model.MIB
            for offset in range(0, _WRITE_BYTES, step):
                # Some of it over the image's data, some behind it.
                place = offset * (_VOLUME_GIB * model.GIB // _WRITE_BYTES)
                image.write(os.urandom(step), place)
            image.flush()

    def _hash_volume(self, name: str) -> str:
        return self._hash(f'demo-{self._tag}-{name}')

    def _hash(self, name: str, length: int | None = None) -> str:
        pool = self._fast.cluster.pool(self._fast.config.pool)
        digest = hashlib.sha256()
        with pool.open(name, read_only=True) as image, outbound.SourceStream(
                image, operations=8, report=progress.Silent()) as stream:
            left = image.size_bytes if length is None else length
            while left:
                data = stream.read(min(left, 4 * model.MIB)) or b''
                digest.update(data)
                left -= len(data)
        return digest.hexdigest()

    def _note(self, result: Result, is_right: bool, name: str) -> None:
        pool = self._fast.cluster.pool(self._fast.config.pool)
        with pool.open(name, read_only=True) as image:
            data = sum(extent.length for extent in image.extents()
                       if extent.exists)
        _say(f'  by {result.strategy} in {result.seconds:.2f} s: '
             f'{result.sentence}')
        self._rows.append(Row(
            result.operation, result.strategy, result.reason,
            result.size_bytes, data, result.seconds, is_right))

    # -- afterwards ----------------------------------------------------------
    def _clean(self) -> None:
        _say('cleaning up')
        for image_id in reversed(self._images):
            try:
                self._delete_image(image_id)
            except exception.GlanceImageNotFound:
                continue
        for name in self._volumes:
            try:
                self._fast.volumes.delete(name)
            except exception.ImageNotFound:
                continue
        self._fast.reclaimer.purge()

    def _left(self) -> list[str]:
        """What of ours is still in a pool or in its trash."""
        ours = {*self._images, *self._volumes}
        found: list[str] = []
        for name in ('volumes', 'images', 'vms'):
            pool = self._fast.cluster.pool(name)
            found += [entry.name for entry in pool.images()]
            found += [entry.name for entry in pool.trash()]
        return [name for name in found if name in ours]


def _make_filesystem(path: pathlib.Path) -> None:
    """An ext4 file system with real files in it."""
    program = shutil.which('mkfs.ext4', path='/usr/sbin:/sbin:/usr/bin')
    if program is None:
        raise exception.SandboxError(
            'mkfs.ext4 is not installed.',
            remedy='Run "apt-get install e2fsprogs".')
    with tempfile.TemporaryDirectory(prefix='volume-rbd-demo-') as folder:
        for source in itertools.islice(_some_files(), 4000):
            shutil.copy(source, pathlib.Path(folder, uuid.uuid4().hex))
        subprocess.run(
            [program, '-q', '-d', folder, str(path),
             f'{_IMAGE_BYTES // 1024}k'],
            check=True, capture_output=True)


def _some_files() -> Iterator[pathlib.Path]:
    """Files of this very system, up to 200 MiB of them."""
    total = 0
    for path in sorted(pathlib.Path(sys.prefix).rglob('*.*')):
        if path.is_file() and not path.is_symlink():
            total += path.stat().st_size
            if total > _FILES_BYTES:
                return
            yield path


def _hash_file(path: pathlib.Path) -> str:
    with path.open('rb') as data:
        return hashlib.file_digest(data, 'sha256').hexdigest()


def _with_ratios(rows: list[Row]) -> list[Row]:
    slowest: dict[str, float] = {}
    for row in rows:
        slowest[row.operation] = max(row.seconds,
                                     slowest.get(row.operation, 0))
    return [dataclasses.replace(
        row, seconds=round(row.seconds, 3),
        ratio=round(slowest[row.operation] / row.seconds, 1))
        if row.operation in set(plan.Operation) else
        dataclasses.replace(row, seconds=round(row.seconds, 3))
        for row in rows]


def _table(rows: list[Row]) -> rich_table.Table:
    table = rich_table.Table(title='What was done, which way, and why',
                             box=rich_box.SIMPLE, pad_edge=False,
                             collapse_padding=True)
    for name in ('what', 'strategy', 'reason'):
        table.add_column(name, no_wrap=True)
    for name in ('size', 'data', 's', 'ratio', 'verified'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            row.operation.partition('_')[0], row.strategy, row.reason,
            _human(row.size),
            _human(row.data), f'{row.seconds:.2f}',
            f'{row.ratio:g} x' if row.ratio else '',
            '[green]yes[/green]' if row.verified else '[red]NO[/red]')
    return table


def _human(size_bytes: int) -> str:
    if not size_bytes:
        return ''
    if size_bytes % model.GIB == 0:
        return f'{size_bytes // model.GIB} GiB'
    return f'{size_bytes / model.MIB:.0f} MiB'


def _say(line: str) -> None:
    sys.stderr.write(f'{line}\n')
