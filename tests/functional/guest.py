# SPDX-License-Identifier: Apache-2.0
"""Guests: the disk that they boot from, and qemu, which opens it in RBD.

The file system of the disk has a program that the kernel ends up in. It tells
which words are in a file beside it, appends one, and turns the guest off.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.functional.content import MIB
from tests.functional.linux import Linux, write_program

DISK_BYTES = 32 * MIB
# Where nothing else runs it is four seconds.
_PATIENCE_S = 90
_LAST = 'good night'
# What the kernel does not know of its command line is in the environment.
_INIT = f'''\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
exec > /dev/ttyS1
cat /words
echo "$word" >> /words
mount -o remount,ro /
echo '{_LAST}'
poweroff -f
'''

#: A disk as ``qemu -blockdev`` has it, without the name of the node.
BlockDevice = dict[str, Any]


def make_disk(path: Path, linux: Linux, word: str) -> None:
    """A disk that boots, as a raw file.

    :param word: the first one in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        linux.add_busybox(root)
        write_program(root / 'sbin' / 'init', _INIT)
        (root / 'words').write_text(f'{word}\n')
        subprocess.run(
            ['/usr/sbin/mkfs.ext4', '-q', '-d', folder, str(path),
             f'{DISK_BYTES // 1024}k'],
            check=True, capture_output=True, text=True)


def read_words(path: Path) -> list[str]:
    """Those in the file of a disk, without a guest."""
    return subprocess.run(
        ['/usr/sbin/debugfs', '-R', 'cat /words', str(path)], check=True,
        capture_output=True, text=True).stdout.splitlines()


# -- where qemu finds a disk -------------------------------------------------
def by_ceph_conf(conf: str, user: str, pool: str, name: str) -> BlockDevice:
    """The monitors and the keyring are in a ceph.conf."""
    return {'driver': 'rbd', 'pool': pool, 'image': name, 'user': user,
            'conf': conf}


def by_domain_xml(xml: str) -> BlockDevice:
    """As libvirt tells qemu; the key goes with it, see :func:`boot`."""
    source = ElementTree.fromstring(xml).find('source')
    assert source is not None
    auth = source.find('auth')
    assert auth is not None
    pool, _, name = source.attrib['name'].partition('/')
    return {'driver': 'rbd', 'pool': pool, 'image': name,
            'user': auth.attrib['username'],
            'auth-client-required': ['cephx'], 'key-secret': 'key',
            'server': [{'host': host.attrib['name'],
                        'port': host.attrib['port']}
                       for host in source.findall('host')]}


# -- qemu --------------------------------------------------------------------
def boot(linux: Linux, disk: BlockDevice, word: str, *,
         keyring: Path | None = None) -> list[str]:
    """Start a guest, and wait until it has turned itself off.

    :param word: what the guest appends.
    :param keyring: what libvirt has in a secret; None: a ceph.conf tells.
    :returns: the words that it found before.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        initramfs, console, report = (
            folder / name for name in ('initramfs', 'console', 'report'))
        linux.make_initramfs(initramfs)
        said = _run([
            # Emulated: KVM may be there and hang.
            'qemu-system-x86_64', '-accel', 'tcg', '-m', '256',
            '-nodefaults', '-display', 'none', '-no-reboot',
            '-serial', f'file:{console}', '-serial', f'file:{report}',
            '-kernel', str(linux.kernel), '-initrd', str(initramfs),
            '-append', f'console=ttyS0 panic=-1 word={word}',
            *(_secret(keyring, folder) if keyring else ()),
            '-blockdev', json.dumps({**disk, 'node-name': 'disk'}),
            '-device', 'virtio-blk-pci,drive=disk'],
            # Only what is named is read.
            {'CEPH_CONF': '/nonexistent'} if keyring else {})
        lines = _lines(report)
        assert lines[-1:] == [_LAST], '\n'.join([
            'The guest did not turn itself off. qemu said:', said,
            'The end of its console:', *_lines(console)[-40:]])
        return lines[:-1]


def _secret(keyring: Path, folder: Path) -> list[str]:
    found = re.search(r'key = (\S+)', keyring.read_text())
    assert found, f'There is no key in {keyring}.'
    path = folder / 'key'
    path.write_text(found[1])
    return ['-object', f'secret,id=key,format=base64,file={path}']


def _run(command: Sequence[str], environ: dict[str, str]) -> str:
    """:returns: what was said on stderr; it ends in time, or is killed."""
    # Nor does it outlive a test run that was killed.
    with subprocess.Popen(
            ['setpriv', '--pdeathsig', 'KILL', *command], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=environ) as process:
        try:
            return process.communicate(timeout=_PATIENCE_S)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return (f'(killed after {_PATIENCE_S} s)\n'
                    + process.communicate()[1])
        finally:
            process.kill()


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(errors='replace').splitlines()
    return []
