# SPDX-License-Identifier: Apache-2.0
"""The tools of the trade on the same bytes: rbd, qemu-img, curl."""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import time

from volume_rbd import model


class Tools:
    """:param env: of the sandbox's user whose images they are."""

    def __init__(self, env: dict[str, str]) -> None:
        self._conf = env['CEPH_CONF']
        self.rbd = f'rbd --conf {shlex.quote(self._conf)} --id cinder ' \
                   '--no-progress'

    def deep_copy(self, source: str, target: str) -> float:
        """``pool/rbd_image``, each."""
        return timed(f'{self.rbd} deep cp {source} {target}')

    def export(self, source: str, path: pathlib.Path) -> float:
        path.unlink(missing_ok=True)
        return timed(f'{self.rbd} export {source} {path}')

    def convert(self, source: str, target: str) -> float:
        """qcow2 in one pool into an empty rbd_image in another."""
        where = f':conf={self._conf}:id=cinder'
        return timed(
            'qemu-img convert -n -W -m 16 --target-is-zero -f qcow2 -O raw '
            f'rbd:{source}{where} rbd:{target}{where}')

    def create(self, target: str, size_bytes: int) -> float:
        return timed(f'{self.rbd} create --size {size_bytes}B {target}')

    def remove(self, target: str) -> None:
        timed(f'{self.rbd} rm {target}')

    def put(self, source: str, url: str, token: str) -> float:
        """Through Glance's API: ``rbd export - | curl -T -``."""
        return timed(f'{self.rbd} export {source} - | {curl(token)} -T - '
                     "-H 'Content-Type: application/octet-stream' "
                     f'{shlex.quote(url)}')

    def get(self, url: str, token: str, target: str) -> float:
        """And back: ``curl | rbd import -``."""
        return timed(f'{curl(token)} {shlex.quote(url)} | '
                     f'{self.rbd} import - {target}')


def curl(token: str) -> str:
    return f'curl --silent --show-error --fail -H "X-Auth-Token: {token}"'


def timed(command: str) -> float:
    """:raises CalledProcessError: a part of it failed."""
    started = time.monotonic()
    subprocess.run(['bash', '-o', 'pipefail', '-c', command], check=True,
                   capture_output=True, timeout=1800)
    return time.monotonic() - started


def make_qcow2(folder: pathlib.Path, size_bytes: int, data_bytes: int
               ) -> pathlib.Path:
    """A qcow2 whose data lies in fourteen places of the disk."""
    raw, made = folder / 'raw', folder / 'disk.qcow2'
    pieces = 14
    with open('/dev/urandom', 'rb') as noise, open(raw, 'wb') as disk:
        for number in range(pieces):
            disk.seek(number * size_bytes // pieces)
            for _ in range(data_bytes // pieces // model.MIB):
                disk.write(noise.read(model.MIB))
        disk.truncate(size_bytes)
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw,
                    made], check=True, timeout=600)
    raw.unlink()
    return made
