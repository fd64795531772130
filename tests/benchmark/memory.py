# SPDX-License-Identifier: Apache-2.0
"""In a process of its own: upload one volume through Glance, or create one
from an image by download; print the image's id and by how many MiB the peak
of memory has grown."""

from __future__ import annotations

import json
import pathlib
import sys

from volume_rbd import manager, model
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest


def memory_mib(key: str) -> float:
    for line in pathlib.Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    raise LookupError(key)


def reset_peak() -> None:
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def main(volume: str, image_id: str | None = None) -> None:
    with manager.VolumeManager() as volumes:
        driver = volumes.backend('ceph')
        glance = volumes.glance()
        # Everything is loaded and connected before memory is looked at.
        driver.volumes.create(model.VolumeSpec('bench-warm', model.GIB))
        warm = driver.images.upload(model.VolumeSpec('bench-warm'),
                                    ImageRequest('warm', store_id='file'))
        driver.volumes.delete('bench-warm')
        glance.delete_image(str(warm.values['image_id']))
        reset_peak()
        before = memory_mib('VmRSS')
        if image_id is None:
            image_id = upload(driver, volume)
        else:
            download(driver, f'{volume}-2', image_id)
        grown = round(memory_mib('VmHWM') - before, 1)
    sys.stdout.write(json.dumps([image_id, grown]))


def upload(driver: RBDDriver, volume: str) -> str:
    made = driver.images.upload(model.VolumeSpec(volume),
                                ImageRequest('memory', store_id='file'))
    return str(made.values['image_id'])


def download(driver: RBDDriver, volume: str, image_id: str) -> None:
    result = driver.images.create(model.VolumeSpec(volume), image_id)
    assert result.strategy == 'download', result.sentence
    driver.volumes.delete(volume)


if __name__ == '__main__':
    main(*sys.argv[1:])
