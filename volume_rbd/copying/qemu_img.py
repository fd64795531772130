# SPDX-License-Identifier: Apache-2.0
"""Other formats are converted by qemu-img, from rbd_image to rbd_image, or
from local file to local file.

It runs as a child of ours with nothing to hold on to:

* a limit on its address space; no file of its own (``RLIMIT_FSIZE`` 0: the
  kernel ends it rather than let it write a local byte), or none larger than
  the one it is to make; and no core dump, in which keys would lie;
* what it reads is named by a JSON object that says the format and that there
  is no backing file, so that nothing is guessed and nothing is followed;
* a key comes through a pipe, never on the command line or from a file;
* it dies with the thread that started it, however that one dies.

What it opens was inspected before: see inspection.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import selectors
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tenacity
from oslo_log import log as logging

from volume_rbd import exception, opts, progress
from volume_rbd.copying import luks
from volume_rbd.copying.stalled import Stalled
from volume_rbd.model import GIB

LOG = logging.getLogger(__name__)

#: Glance's words to qemu's, where they differ.
_QEMU_FORMATS = {'iso': 'raw', 'vhd': 'vpc', 'ploop': 'parallels'}
_WITH_BACKING = frozenset({'qcow2', 'vmdk'})
#: A vhd has a size in cylinders unless it is told to keep the true one.
_CREATE_OPTIONS = {'vhd': ('-o', 'force_size=on')}

#: qemu-img with librbd and 16 requests took 1.6 GiB of it, most never touched.
_ADDRESS_SPACE_BYTES = 4 * GIB
_REQUESTS = 16

#: Where qemu-img check looks for what lies behind the end; 3: nothing but
#: space that is not used.
_CHECKABLE = frozenset({'qcow2', 'vmdk', 'vhdx'})
_CHECK_FINE = frozenset({0, 3})

_POLL_S = 0.2
_KILL_AFTER_S = 5
_STDERR_BYTES = 16 * 1024
_PERCENT = re.compile(rb'\(([0-9.]+)/100%\)')
# To make a LUKS header qemu-img measures how fast it hashes, and gives up
# where the kernel's clock was too coarse for that (7.2: one in three).
_NO_CLOCK = 'accurate CPU usage'
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class RBDDisk:
    """An rbd_image, maybe at a snapshot, for qemu.

    :param cluster: whose ceph.conf and keyring qemu uses.
    """

    pool: str
    image: str
    cluster: opts.ClusterConfig
    snapshot: str | None = None

    def node(self) -> dict[str, str]:
        node = {'driver': 'rbd', 'pool': self.pool, 'image': self.image,
                'user': self.cluster.user or 'admin'}
        if self.snapshot is not None:
            node['snapshot'] = self.snapshot
        conf = _conf_path(self.cluster)
        if conf:
            node['conf'] = conf
        return node

    def new_name(self) -> str:
        """How an rbd_image that is to be made is named."""
        parts = [f'rbd:{_escape(self.pool)}/{_escape(self.image)}',
                 f'id={_escape(self.cluster.user or "admin")}']
        conf = _conf_path(self.cluster)
        if conf:
            parts.append(f'conf={_escape(conf)}')
        return ':'.join(parts)

    def __str__(self) -> str:
        at = f'@{self.snapshot}' if self.snapshot else ''
        return f'{self.pool}/{self.image}{at}'


@dataclasses.dataclass(frozen=True)
class FileDisk:
    """A local file.

    :param is_ours: nobody else has it, and qemu need not lock it: on NFS, a
        lock of ours would be in its way.
    """

    path: str
    is_ours: bool = False

    def node(self) -> dict[str, str]:
        node = {'driver': 'file', 'filename': str(Path(self.path).resolve())}
        if self.is_ours:
            node['locking'] = 'off'
        return node

    def __str__(self) -> str:
        return self.path


class Converter(Protocol):
    """What converts disks; qemu-img, or a fake in its place.

    Errors: Cancelled, NoSpace, CephPermissionDenied, ClusterUnavailable,
    ConfigurationError (ceph.conf, keyring, no qemu-img), WrongPassphrase
    where a key does not open what it is given for, ConversionFailed
    with what it said. What was being written is then in an unknown state.
    """

    def to_disk(self, source: RBDDisk | FileDisk, disk_format: str,
                target: RBDDisk, *, is_zero: bool, size_bytes: int,
                report: progress.Progress, key: bytes | None = None) -> None:
        """Write the disk inside of *source* onto the rbd_image *target*,
        which is there and large enough; what is behind its end stays.

        :param disk_format: of the source, in Glance's word.
        :param is_zero: the target reads as zeros: holes are left out.
        :param size_bytes: of the disk inside, for progress.
        :param key: the target is a LUKS volume that this passphrase opens.
        """

    def to_format(self, source: RBDDisk, target: RBDDisk, disk_format: str,
                  *, size_bytes: int, report: progress.Progress,
                  compress: bool = False, key: bytes | None = None) -> None:
        """Write the raw *source* as a file of *disk_format*, onto the
        rbd_image *target*, which is made by this and as large as the file.

        :param compress: qcow2 only.
        :param key: *source* is a LUKS1 volume that this passphrase opens;
            the disk inside is written.
        """

    def to_file(self, source: FileDisk, disk_format: str, target: FileDisk,
                *, size_bytes: int, report: progress.Progress) -> None:
        """Write the disk inside of *source* onto the local file *target*,
        which is there, as large as the disk, and one hole.

        :param size_bytes: of the disk inside.
        """

    def make_luks_header(self, target: RBDDisk,
                         encryption: luks.Encryption, *,
                         report: progress.Progress) -> None:
        """Make the rbd_image *target*: the header of a LUKS1 volume, and
        nothing more."""

    def open_luks(self, target: RBDDisk, key: bytes, *,
                  report: progress.Progress) -> None:
        """See that *key* opens the LUKS1 volume *target*: it is an error
        where it does not. Nothing is written."""

    def change_luks_key(self, target: RBDDisk, key: bytes, new_key: bytes, *,
                        report: progress.Progress) -> None:
        """Make the LUKS1 volume *target* open with *new_key* and no longer
        with *key*. At any moment one of the two opens it. Doing it again
        with the same two where the first was cut short is an error."""


class QemuImg:
    """:class:`Converter` with the program of that name.

    :param program: path or name.
    :param check_room: is asked about the pool that is written to while
        nothing moves, and raises NoSpace: librbd waits without end for room
        in a pool that is full, and says nothing.
    """

    def __init__(self, program: str = 'qemu-img', *,
                 check_room: Callable[[str], None] = lambda pool: None
                 ) -> None:
        self._program = program
        self._check_room = check_room

    def to_disk(self, source: RBDDisk | FileDisk, disk_format: str,
                target: RBDDisk, *, is_zero: bool, size_bytes: int,
                report: progress.Progress, key: bytes | None = None) -> None:
        if disk_format in _CHECKABLE:
            self._check(source, disk_format, target, report)
        words = ['convert', '-p', '-n', '-W', '-m', str(_REQUESTS)]
        if is_zero:
            words.append('--target-is-zero')
        if key is None:
            words += ['-O', 'raw', _name(source, disk_format),
                      _name(target, 'raw')]
        else:
            words += ['-O', 'luks', _name(source, disk_format),
                      _sealed(target)]
        report.start(size_bytes)
        self._run(words, target, report, size_bytes,
                  {} if key is None else {'key': key})

    def to_format(self, source: RBDDisk, target: RBDDisk, disk_format: str,
                  *, size_bytes: int, report: progress.Progress,
                  compress: bool = False, key: bytes | None = None) -> None:
        words = ['convert', '-p', '-W', '-m', str(_REQUESTS), '-O',
                 _qemu_format(disk_format),
                 *_CREATE_OPTIONS.get(disk_format, ())]
        if compress:
            words.append('-c')
        words += [_name(source, 'raw') if key is None else _sealed(source),
                  target.new_name()]
        report.start(size_bytes)
        self._run(words, target, report, size_bytes,
                  {} if key is None else {'key': key})

    def to_file(self, source: FileDisk, disk_format: str, target: FileDisk,
                *, size_bytes: int, report: progress.Progress) -> None:
        if disk_format in _CHECKABLE:
            self._check(source, disk_format, target, report)
        report.start(size_bytes)
        self._run(['convert', '-p', '-n', '-W', '-m', str(_REQUESTS),
                   '--target-is-zero', '-O', 'raw',
                   _name(source, disk_format), _name(target, 'raw')],
                  target, report, size_bytes, file_bytes=size_bytes)

    def make_luks_header(self, target: RBDDisk,
                         encryption: luks.Encryption, *,
                         report: progress.Progress) -> None:
        cipher = luks.parse_cipher(encryption.cipher, encryption.key_size)
        words = ['create', '-q', '-f', 'luks', '-o',
                 f'key-secret=key,iter-time={encryption.hashing_ms},'
                 f'{cipher.options()}', target.new_name(), '0']
        self._run(words, target, report, 0, {'key': encryption.key})

    def open_luks(self, target: RBDDisk, key: bytes, *,
                  report: progress.Progress) -> None:
        # "info" would do without the key, this reads nothing else.
        words = ['measure', '--output=json', '-O', 'raw', _sealed(target)]
        self._run(words, target, report, 0, {'key': key})

    def change_luks_key(self, target: RBDDisk, key: bytes, new_key: bytes, *,
                        report: progress.Progress) -> None:
        keys = {'key': key, 'new': new_key}
        for opens, change in (
                ('key', 'state=active,new-secret=new,'
                        f'iter-time={luks.RANDOM_KEY_MS}'),
                ('new', 'state=inactive,old-secret=key')):
            words = ['amend', '-q', '-o', change,
                     _sealed(target, opens)]
            for attempt in retrying():
                with attempt:
                    self._run(words, target, report, 0, keys)

    def _check(self, source: RBDDisk | FileDisk, disk_format: str,
               target: RBDDisk | FileDisk, report: progress.Progress
               ) -> None:
        """What is missing at the end of a file would be read as zeros."""
        try:
            self._run(['check', '-q', '-f', _qemu_format(disk_format),
                       _name(source, disk_format)], target, report, 0,
                      fine=_CHECK_FINE)
        except exception.ConversionFailed as error:
            raise exception.ConversionFailed(
                f'The file is damaged or cut short: {error.message}'
                ) from error

    def _run(self, words: Sequence[str], target: RBDDisk | FileDisk,
             report: progress.Progress, size_bytes: int,
             keys: Mapping[str, bytes] | None = None,
             fine: frozenset[int] = frozenset({0}), file_bytes: int = 0
             ) -> None:
        """:param file_bytes: the most that a local file may have."""
        limited = _limited(self._program, file_bytes)
        cluster = target.cluster if isinstance(target, RBDDisk) else None
        with contextlib.ExitStack() as stack:
            files: list[int] = []
            secrets: list[str] = []
            for name, key in (keys or {}).items():
                files.append(stack.enter_context(_readable(key)))
                # "raw": the bytes as they are.
                secrets += ['--object', f'secret,id={name},format=raw,'
                                        f'file=/dev/fd/{files[-1]}']
            words = [words[0], *secrets, *words[1:]]  # after the subcommand
            LOG.debug('Running qemu-img %s', ' '.join(words))
            child = stack.enter_context(_started(
                [*limited, *words], files, _environment(cluster)))
            complaint = _follow(child, report if isinstance(
                target, FileDisk) else Stalled(
                report, lambda: self._check_room(target.pool)), size_bytes)
        if child.returncode not in fine:
            raise _explain(child.returncode, complaint, cluster)


# -- the child ----------------------------------------------------------------

def _limited(program: str, file_bytes: int) -> list[str]:
    """The command line up to qemu-img's own arguments."""
    paths = {name: shutil.which(name)
             for name in ('setpriv', 'prlimit', program)}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise exception.ConfigurationError(
            f'{", ".join(missing)} is not installed.',
            remedy='Install qemu-utils with qemu-block-extra, and '
                   'util-linux.')
    return [paths['setpriv'] or '', '--pdeathsig', 'KILL', '--',
            paths['prlimit'] or '', f'--as={_ADDRESS_SPACE_BYTES}',
            f'--fsize={file_bytes}', '--core=0', '--', paths[program] or '']


def _environment(cluster: opts.ClusterConfig | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ('PATH', 'HOME', 'CEPH_CONF')
            if name in os.environ}
    if cluster and cluster.cluster_name != 'ceph':
        # qemu knows no other name, and so no keyring that bears one.
        kept['CEPH_KEYRING'] = (f'/etc/ceph/{cluster.cluster_name}.client.'
                                f'{cluster.user or "admin"}.keyring')
    # Few arenas: each takes 64 MiB of the address space.
    return {**kept, 'LC_ALL': 'C', 'MALLOC_ARENA_MAX': '4'}


@contextlib.contextmanager
def _readable(key: bytes) -> Iterator[int]:
    """A file descriptor from which a child reads *key* once."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, 'wb') as stream:
            stream.write(key)  # fits into the pipe
        yield reader
    finally:
        os.close(reader)


@contextlib.contextmanager
def _started(command: Sequence[str], files: Sequence[int],
             environment: Mapping[str, str]
             ) -> Iterator[subprocess.Popen[bytes]]:
    """The child; it has ended when the block is left."""
    with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, pass_fds=files, env=environment,
            bufsize=0) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(_KILL_AFTER_S)
                except subprocess.TimeoutExpired:
                    child.kill()


def _follow(child: subprocess.Popen[bytes], report: progress.Progress,
            size_bytes: int) -> str:
    """Tell *report* how far it is until it ends.

    :returns: what it complained of.
    :raises Cancelled: as *report* says.
    """
    told = 0
    complaint = b''
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            report.check()
            for found, _ in selector.select(_POLL_S):
                data = os.read(found.fd, 4096)
                if not data:
                    selector.unregister(found.fileobj)
                elif found.fileobj is child.stderr:
                    complaint = (complaint + data)[-_STDERR_BYTES:]
                else:
                    done = _done_bytes(data, size_bytes)
                    if done > told:
                        report.advance(done - told)
                        told = done
    while child.poll() is None:
        report.check()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_S)
    if child.returncode == 0 and told < size_bytes:
        report.advance(size_bytes - told)
    return complaint.decode('utf-8', 'replace')


def _done_bytes(text: bytes, size_bytes: int) -> int:
    found = _PERCENT.findall(text)
    return int(float(found[-1]) * size_bytes / 100) if found else 0


# -- names --------------------------------------------------------------------

def _qemu_format(disk_format: str) -> str:
    return _QEMU_FORMATS.get(disk_format, disk_format)


def _name(disk: RBDDisk | FileDisk, disk_format: str, **options: str) -> str:
    node: dict[str, Any] = {'driver': _qemu_format(disk_format),
                            'file': disk.node(), **options}
    if node['driver'] in _WITH_BACKING:
        node['backing'] = None
    return 'json:' + json.dumps(node)


def _sealed(disk: RBDDisk, opened_by: str = 'key') -> str:
    """:param opened_by: the name of the secret."""
    return _name(disk, 'luks', **{'key-secret': opened_by})


def _escape(text: str) -> str:
    """For a part of an ``rbd:`` name; see qemu's block/rbd.c."""
    return re.sub(r'([\\:@/=])', r'\\\1', text)


def _conf_path(cluster: opts.ClusterConfig) -> str:
    if cluster.ceph_conf:
        return str(Path(cluster.ceph_conf).resolve())
    if cluster.cluster_name != 'ceph' and 'CEPH_CONF' not in os.environ:
        return f'/etc/ceph/{cluster.cluster_name}.conf'
    return ''  # librados' own search


# -- why it failed ------------------------------------------------------------

_WRONG_KEY = 'Invalid password'

#: What qemu-img's last words mean, the first that fits.
_MEANINGS: Sequence[tuple[str, type[exception.VolumeRBDError]]] = (
    ('No space left', exception.NoSpace),
    ('Disk quota exceeded', exception.NoSpace),
    ('error connecting: No such file', exception.ConfigurationError),
    ('error connecting: Invalid argument', exception.ConfigurationError),
    ('error reading conf file', exception.ConfigurationError),
    ('error connecting: Operation not permitted',
     exception.CephPermissionDenied),
    ('error connecting: Permission denied', exception.CephPermissionDenied),
    ('Operation not permitted', exception.CephPermissionDenied),
    ('Permission denied', exception.CephPermissionDenied),
    ('error connecting', exception.ClusterUnavailable),
    ('Cannot send after transport endpoint shutdown',
     exception.ClusterUnavailable),
    ("Unknown driver 'rbd'", exception.ConfigurationError),
    ("Unknown protocol 'rbd'", exception.ConfigurationError),
)


def _explain(code: int, complaint: str, cluster: opts.ClusterConfig | None
             ) -> exception.VolumeRBDError:
    if _WRONG_KEY in complaint:
        return exception.WrongPassphrase(
            'The passphrase does not open the encrypted volume.')
    lines = [line.removeprefix('qemu-img: ') for line in
             complaint.splitlines() if line and 'warning:' not in line]
    said = _without_names(' '.join(lines[-3:])) or f'exit code {code}'
    message = f'qemu-img failed: {said.rstrip(".")}.'
    kind = next((kind for words, kind in _MEANINGS if words in complaint),
                exception.ConversionFailed)
    if cluster and kind is exception.ConfigurationError:
        return kind(message, remedy=(
            'qemu-img finds the cluster by ceph.conf alone: that must name '
            f'"mon host" and a keyring of client.{cluster.user or "admin"} '
            'which this process may read; and qemu-block-extra must be '
            'installed.'))
    return kind(message)


def _without_names(text: str) -> str:
    """A json: name says nothing to a person but the image it is about."""
    return re.sub(r"json:\{.*\}+'?:? ?", '', text)


def retrying() -> tenacity.Retrying:
    """For what hashes a passphrase, as making a header does."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_another_try),
        stop=tenacity.stop_after_attempt(_ATTEMPTS), reraise=True)


def _is_worth_another_try(error: BaseException) -> bool:
    """Whether the same may go well in the next moment."""
    return (isinstance(error, exception.ConversionFailed)
            and _NO_CLOCK in error.message)
