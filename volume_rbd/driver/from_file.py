# SPDX-License-Identifier: Apache-2.0
"""A local file that somebody else has made becomes a volume's content.

Cinder's manager downloads an image by itself where the volume is encrypted or
made anew in place (reimage). From there it goes straight onto the rbd_image:
no second file.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import lineage, settings
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying import clearing, inspection, local_file, qemu_img
from volume_rbd.flows import staging

_ORIGIN = 'file'


def inspect_file(config: opts.BackendConfig, path: str, disk_format: str
                 ) -> int:
    """:returns: the size in bytes of the disk inside.
    :raises ImageUnsafe, NotSupported: it is not used.
    :raises InvalidInput, NotFound, AccessDenied: it cannot be read."""
    if disk_format not in {'raw', *plan.READABLE_FORMATS}:
        raise exception.NotSupported(
            f'A disk of the format {disk_format!r} cannot be read.')
    if disk_format != 'raw' and not config.may_convert:
        raise exception.NotSupported(
            f'The file is {disk_format}, and image_conversion_disable '
            'forbids to convert.')
    with local_file.opened(path) as file:
        return inspection.inspect(file, disk_format,
                                  vmdk_types=config.vmdk_allowed_types)


class FromFile:
    """Volumes of one backend from local files."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 converter: qemu_img.Converter) -> None:
        self._config = config
        self._pool = cluster.pool(config.pool)
        self._converter = converter

    def write(self, volume: model.VolumeSpec, path: str, disk_format: str,
              *, replace: bool, report: progress.Progress) -> None:
        """See :meth:`Images.create_from_file`."""
        model.check_name(volume.name)
        report.step('inspecting the file')
        disk_bytes = inspect_file(self._config, path, disk_format)
        if replace and self._pool.has_image(volume.name):
            with self._pool.open(volume.name) as image:
                _check_fits(path, disk_bytes, image.size_bytes)
                report.step('clearing the volume')
                clearing.clear(image, report)
            self._convert(volume.name, path, disk_format, disk_bytes, report)
            return
        size_bytes = _size_for(volume, path, disk_bytes, self._config)
        with self.made(volume, size_bytes):
            self._convert(volume.name, path, disk_format, disk_bytes, report)

    @contextlib.contextmanager
    def made(self, volume: model.VolumeSpec, size_bytes: int,
             origin: str = _ORIGIN) -> Iterator[None]:
        """A new volume, complete once the block is left, gone where the
        block fails."""
        settings.check(volume)
        name = volume.name
        self._pool.create(name, size_bytes,
                          layout=self._config.layout)
        try:
            with self._pool.open(name) as image:
                lineage.adopt(image, kind=lineage.VOLUME, origin=origin,
                              job=str(uuid.uuid4()), state=lineage.PENDING)
            yield
            with self._pool.open(name) as image:
                settings.apply_settings(image, volume)
                lineage.set_state(image, lineage.COMPLETE)
        except BaseException:
            staging.wait_until_let_go(self._pool, name)
            self._pool.remove(name)
            raise

    def _convert(self, name: str, path: str, disk_format: str,
                 disk_bytes: int, report: progress.Progress) -> None:
        report.step('converting the file')
        self._converter.to_disk(
            qemu_img.FileDisk(path), disk_format,
            qemu_img.RBDDisk(self._pool.name, name, self._config.cluster),
            is_zero=True, size_bytes=disk_bytes, report=report)


def _size_for(volume: model.VolumeSpec, path: str, disk_bytes: int,
              config: opts.BackendConfig) -> int:
    size = volume.size_bytes or model.gib_for(disk_bytes) * model.GIB
    _check_fits(path, disk_bytes, size)
    plan.check_quota(size, config.max_volume_bytes)
    return size


def _check_fits(path: str, disk_bytes: int, size_bytes: int) -> None:
    if disk_bytes > size_bytes:
        raise exception.InvalidSize(
            f'The disk inside of {path} has {disk_bytes} bytes, more than '
            f'the {size_bytes} of the volume.',
            remedy=f'Ask for {model.gib_for(disk_bytes)} GiB or more.')
