# SPDX-License-Identifier: Apache-2.0
"""A local file that somebody else has made becomes a volume's content.

Cinder's manager downloads an image by itself where the volume is encrypted or
made anew in place (reimage). From there it goes straight onto the rbd_image:
no second file.
"""

from __future__ import annotations

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import settings
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying import clearing, inspection, local_file, qemu_img
from volume_rbd.driver import debris, making
from volume_rbd.flows.base import DiskFile


def inspect_file(config: opts.BackendConfig, path: str, disk_format: str
                 ) -> DiskFile:
    """:raises ImageUnsafe, NotSupported: it is not used.
    :raises InvalidInput, NotFound, AccessDenied: it cannot be read."""
    if disk_format not in {'raw', *plan.READABLE_FORMATS}:
        raise exception.NotSupported(
            f'A disk of the format {disk_format!r} cannot be read.')
    if disk_format != 'raw' and not config.may_convert:
        raise exception.NotSupported(
            f'The file is {disk_format}, and image_conversion_disable '
            'forbids to convert.')
    with local_file.opened(path) as file:
        return DiskFile(path, disk_format, inspection.inspect(
            file, disk_format, vmdk_types=config.vmdk_allowed_types))


class FromFile:
    """Volumes of one backend from local files."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 converter: qemu_img.Converter, maker: making.Maker
                 ) -> None:
        self._config = config
        self._maker = maker
        self._pool = cluster.pool(config.pool)
        self._converter = converter

    def write(self, volume: model.VolumeSpec, path: str, disk_format: str,
              *, replace: bool, report: progress.Progress) -> None:
        """See :meth:`Images.create_from_file`."""
        is_new = not replace or not self._pool.has_image(volume.name)
        if is_new:
            debris.check_new_name(volume.name)
        report.step('inspecting the file')
        file = inspect_file(self._config, path, disk_format)
        if is_new:
            settings.check(volume)
            self._maker.make_from_file(volume, file, report)
            return
        with self._pool.open(volume.name) as image:
            _check_fits(file, image.size_bytes)
            report.step('clearing the volume')
            clearing.clear(image, report)
        report.step('converting the file')
        self._converter.to_disk(
            qemu_img.FileDisk(path), disk_format,
            qemu_img.RBDDisk(self._pool.name, volume.name,
                             self._config.cluster),
            is_zero=True, size_bytes=file.disk_bytes, report=report)


def _check_fits(file: DiskFile, size_bytes: int) -> None:
    if file.disk_bytes > size_bytes:
        raise exception.InvalidSize(
            f'The disk inside of {file.path} has {file.disk_bytes} bytes, '
            f'more than the {size_bytes} of the volume.',
            remedy=f'Ask for {model.gib_for(file.disk_bytes)} GiB or more.')
