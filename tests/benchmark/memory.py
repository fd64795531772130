# SPDX-License-Identifier: Apache-2.0
"""In a process of its own: upload one volume and create from the result
through Glance; print by how many MiB the peak of memory has grown."""

from __future__ import annotations

import json
import pathlib
import sys

from volume_rbd import manager, model
from volume_rbd.driver.images import ImageRequest


def memory_mib(key: str) -> float:
    for line in pathlib.Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    raise LookupError(key)


def reset_peak() -> None:
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def main(volume: str) -> None:
    with manager.VolumeManager() as volumes:
        driver = volumes.backend('ceph')
        glance = volumes.glance()
        # Everything is loaded and connected before memory is looked at.
        driver.volumes.create(model.VolumeSpec('bench-warm', model.GIB))
        warm = driver.images.upload(model.VolumeSpec('bench-warm'),
                                    ImageRequest('warm', store_id='file'))
        driver.volumes.delete('bench-warm')
        grown = {}
        reset_peak()
        before = memory_mib('VmRSS')
        made = driver.images.upload(model.VolumeSpec(volume),
                                    ImageRequest('memory', store_id='file'))
        grown['upload'] = round(memory_mib('VmHWM') - before, 1)
        reset_peak()
        before = memory_mib('VmRSS')
        result = driver.images.create(model.VolumeSpec(f'{volume}-2'),
                                      str(made.values['image_id']))
        assert result.strategy == 'download', result.sentence
        grown['download'] = round(memory_mib('VmHWM') - before, 1)
        driver.volumes.delete(f'{volume}-2')
        for upload in (warm, made):
            glance.delete_image(str(upload.values['image_id']))
    sys.stdout.write(json.dumps(grown))


if __name__ == '__main__':
    main(sys.argv[1])
