# SPDX-License-Identifier: Apache-2.0
"""A Linux for guests: Debian's kernel and busybox, installed nowhere.

apt fetches the packages, and verifies them as it verifies all that it
installs; they are unpacked into a folder of the checkout, where the next run
finds them, without a network too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / '.cache' / 'guest'
_KERNEL, _BUSYBOX = 'linux-image-cloud-amd64', 'busybox-static'
# What is between a disk and the kernel, which has ext4 in itself.
_MODULES = ('virtio_pci', 'virtio_blk')
_APT_TIMEOUT_S = 180
_INIT = '''\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
for module in /modules/*; do
    insmod "$module"
done
mount -t ext4 /dev/vda /root && exec switch_root /root /sbin/init
echo 'There is no disk to boot from.'
poweroff -f
'''


class Linux:
    """:raises pytest.fail.Exception: it is not there and cannot be fetched.
    """

    def __init__(self) -> None:
        self._package = _ensure(_KERNEL)
        self._busybox = _ensure(_BUSYBOX) / 'bin' / 'busybox'

    @property
    def kernel(self) -> Path:
        return next((self._package / 'boot').glob('vmlinuz-*'))

    def add_busybox(self, root: Path) -> None:
        """:param root: of a file system; it gets a shell and what that
            calls."""
        for name in ('bin', 'sbin', 'dev', 'proc'):
            (root / name).mkdir()
        shutil.copy2(self._busybox, root / 'bin')

    def make_initramfs(self, path: Path) -> None:
        """It loads the drivers, and hands over to ``/sbin/init`` of the
        first disk."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            self.add_busybox(root)
            write_program(root / 'init', _INIT)
            (root / 'root').mkdir()
            (root / 'modules').mkdir()
            for number, module in enumerate(self._modules()):
                shutil.copy2(module, root / 'modules' / f'{number:02}.ko')
            with path.open('wb') as stream:
                stream.writelines(_pack(root))

    def _modules(self) -> list[Path]:
        """In the order in which they can be loaded."""
        found = {path.stem.replace('-', '_'): path
                 for path in self._package.rglob('*.ko')}
        ordered: dict[str, Path] = {}

        def add(name: str) -> None:
            match = re.search(rb'\0depends=([^\0]*)\0',
                              found[name].read_bytes())
            assert match, f'{found[name]} is no kernel module'
            for needed in filter(None, match[1].decode().split(',')):
                add(needed.replace('-', '_'))
            ordered.setdefault(name, found[name])

        for name in _MODULES:
            add(name)
        return list(ordered.values())


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _pack(root: Path) -> Iterator[bytes]:
    """What is in a folder, as a cpio archive that a kernel unpacks
    (Documentation/driver-api/early-userspace/buffer-format)."""
    paths = [*sorted(root.rglob('*')), None]
    for number, path in enumerate(paths, 1):
        name = str(path.relative_to(root)) if path else 'TRAILER!!!'
        data = path.read_bytes() if path and path.is_file() else b''
        mode = path.stat().st_mode if path else 0
        # ino, mode, uid, gid, nlink, mtime, size, 4 of devices, name, check.
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                  len(name) + 1, 0)
        head = b'070701' + b''.join(b'%08X' % field for field in fields)
        yield _pad(head + name.encode() + b'\0')
        yield _pad(data)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# -- packages ----------------------------------------------------------------
def _ensure(package: str) -> Path:
    """The folder with what is in a package."""
    target = CACHE / package
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            unpacked = Path(folder, 'unpacked')
            _run('dpkg-deb', '-x', str(_download(package, folder)),
                 str(unpacked))
            try:  # in one step
                unpacked.rename(target)
            except OSError:
                if not target.exists():  # by a run that was quicker
                    raise
    return target


def _download(package: str, folder: str) -> Path:
    """The machine's own lists will do, unless they are missing or of a time
    before the last security update."""
    try:
        _fetch(package, folder)
    except subprocess.CalledProcessError:
        lists = CACHE / 'lists'
        (lists / 'partial').mkdir(parents=True, exist_ok=True)
        own = ('-o', f'Dir::State::Lists={lists}')
        try:
            _run('apt-get', *own, '-o', 'APT::Update::Error-Mode=any',
                 'update')
            _fetch(package, folder, *own)
        except subprocess.SubprocessError as error:
            pytest.fail(
                f'A guest needs what Debian has in {package}, and apt cannot '
                f'fetch it: {error}\n{getattr(error, "stderr", "")}\n'
                'Let the machine reach a mirror, or unpack the package with '
                f'"dpkg-deb -x" into {CACHE / package}.')
    return next(Path(folder).glob('*.deb'))


def _fetch(package: str, folder: str, *options: str) -> None:
    # The kernel is in a package that the one of this name depends on.
    depends = _run('apt-cache', *options, 'depends', '--important', package)
    kernel = re.search(r'Depends: (linux-image-\S+)', depends)
    _run('apt-get', *options, 'download', kernel[1] if kernel else package,
         cwd=folder)


def _run(*words: str, cwd: str | None = None) -> str:
    return subprocess.run(
        words, check=True, cwd=cwd, capture_output=True, text=True,
        env={**os.environ, 'LC_ALL': 'C'}, timeout=_APT_TIMEOUT_S).stdout
