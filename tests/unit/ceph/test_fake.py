# SPDX-License-Identifier: Apache-2.0
"""What the fake can do that the real one cannot: fail when it is told."""

import pytest

from tests.fakes.ceph import FakeCeph
from volume_rbd import exception


def test_a_fault_hits_the_next_call_only():
    ceph = FakeCeph()
    pool = ceph.cluster().pool('volumes')
    ceph.fail_next('create', exception.NoSpace('full'))

    with pytest.raises(exception.NoSpace):
        pool.create('a', 4096)
    pool.create('a', 4096)


def test_a_fault_of_an_operation_in_flight_comes_when_it_is_waited_for():
    ceph = FakeCeph()
    pool = ceph.cluster().pool('volumes')
    pool.create('a', 4096)
    with pool.open('a') as image:
        ceph.fail_next('write', exception.NoSpace('full'), times=2)
        writes = [image.aio_write(b'x', 0) for _ in range(3)]
        for write in writes[:2]:
            with pytest.raises(exception.NoSpace):
                write.wait()
        writes[2].wait()


def test_a_quota_counts_what_is_stored():
    ceph = FakeCeph(capacity_bytes=10 ** 9)
    ceph.quotas['volumes'] = 10 ** 6
    pool = ceph.cluster().pool('volumes')
    pool.create('a', 10 ** 7)
    with pool.open('a') as image:
        image.write(bytes([1]) * 4096, 0)

    usage = pool.usage()

    assert usage.stored_bytes == 4096
    assert usage.max_available_bytes == 10 ** 6 - 4096
    assert usage.quota_bytes == 10 ** 6
