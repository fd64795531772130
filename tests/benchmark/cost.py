# SPDX-License-Identifier: Apache-2.0
"""What one operation costs, in a process of its own.

Prints JSON: the image's id, by how many MiB the peak of memory has grown,
the peak of its largest child (qemu-img), seconds, and processor seconds of
the process and its children.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import resource
import sys
import time

from volume_rbd import manager, model
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest

#: Operation -> the strategy that it has to be.
OPERATIONS = {'upload': 'upload', 'copy': 'copy', 'hashed copy': 'copy',
              'download': 'download', 'convert': 'convert'}


def memory_mib(key: str) -> float:
    for line in pathlib.Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    raise LookupError(key)


def reset_peak() -> None:
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('operation', choices=OPERATIONS)
    parser.add_argument('volume', help='is uploaded; or is made')
    parser.add_argument('image', nargs='?', help='it is made from')
    arguments = parser.parse_args()
    with manager.VolumeManager() as volumes:
        sys.stdout.write(json.dumps(measure(
            volumes, arguments.operation, arguments.volume,
            arguments.image)))


def measure(volumes: manager.VolumeManager, operation: str, volume: str,
            image_id: str | None) -> dict[str, object]:
    driver = open_driver(volumes, operation)
    warm_up(volumes, driver)
    reset_peak()
    before = memory_mib('VmRSS')
    used = processor_seconds()
    started = time.monotonic()
    if image_id is None:
        result = driver.images.upload(
            model.VolumeSpec(volume), ImageRequest('cost'))
    else:
        result = driver.images.create(model.VolumeSpec(volume), image_id)
    found = {
        'image_id': result.values.get('image_id', image_id),
        'seconds': round(time.monotonic() - started, 2),
        'processor_seconds': round(processor_seconds() - used, 2),
        'grown_mib': round(memory_mib('VmHWM') - before, 1),
        'child_mib': round(resource.getrusage(
            resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)}
    assert result.strategy == OPERATIONS[operation], result.sentence
    driver.close()
    return found


def open_driver(volumes: manager.VolumeManager, operation: str) -> RBDDriver:
    """The backend whose settings lead to the operation's strategy."""
    if operation not in ('copy', 'hashed copy'):
        return volumes.open(volumes.backend('ceph').config)
    return volumes.open(dataclasses.replace(
        volumes.backend('optimized').config, max_clone_depth=0,
        glance_secure_hash=operation == 'copy'))


def warm_up(volumes: manager.VolumeManager, driver: RBDDriver) -> None:
    """Everything is loaded and connected before memory is looked at."""
    driver.volumes.create(model.VolumeSpec('bench-warm', model.GIB))
    warm = driver.images.upload(model.VolumeSpec('bench-warm'),
                                ImageRequest('warm', store_id='file'))
    driver.volumes.delete('bench-warm')
    volumes.glance().delete_image(str(warm.values['image_id']))


if __name__ == '__main__':
    main()
