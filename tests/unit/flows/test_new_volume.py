# SPDX-License-Identifier: Apache-2.0
"""create_volume of what only the process has that was asked: a passphrase, a
local file. Killed at any call it is undone by the next one, which has neither.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.fakes import disk_formats
from tests.fakes.qemu_img import LUKS_HEADER_BYTES, LUKS_MAGIC
from tests.unit.flows import checks
from tests.unit.flows.lives import Job
from tests.unit.world import World, content
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.copying import luks
from volume_rbd.flows import base, create_volume
from volume_rbd.flows.create_volume import Way

JOB = 'c0000000-0000-4000-8000-000000000001'
ENCRYPTION = luks.Encryption('00ff' * 16)
SIZE = 8 * model.MIB


@dataclasses.dataclass
class Filled(checks.Operation):
    """:ivar origin: as the mark of the volume has it."""

    origin: str = ''
    is_sealed: bool = False

    def check_done(self) -> None:
        world = self.world
        header_bytes = LUKS_HEADER_BYTES if self.is_sealed else 0
        found = world.read('volumes', checks.NEW)
        assert len(found) == SIZE + header_bytes
        assert found.startswith(LUKS_MAGIC) == self.is_sealed
        assert found[header_bytes:][:len(self.data)] == self.data
        mark = world.mark('volumes', checks.NEW)
        assert mark is not None
        assert (mark.kind, mark.state, mark.origin, mark.job) == (
            lineage.VOLUME, lineage.COMPLETE, self.origin, JOB)
        assert world.disks('volumes') == [checks.NEW]


@pytest.fixture(params=['sealed', 'file', 'sealed file'])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> base.DiskFile:
    path = tmp_path / 'disk'
    path.write_bytes(disk_formats.qcow2(content()))
    return base.DiskFile(str(path), 'qcow2', len(content()))


def begin(kind: str, file: base.DiskFile) -> Job:
    has_file, is_sealed = 'file' in kind, 'sealed' in kind
    operation = Filled(World(), content() if has_file else b'',
                       lambda report: pytest.fail('it is run as a job'),
                       origin='file' if has_file else 'blank',
                       is_sealed=is_sealed)
    return Job(operation, create_volume.get_flow,
               create_volume.get_arguments(
                   Way.FILE if has_file else Way.BLANK,
                   model.VolumeSpec(checks.NEW, SIZE), SIZE, job=JOB,
                   has_passphrase=is_sealed),
               encryption=ENCRYPTION if is_sealed else None,
               file=file if has_file else None)


def test_killed_at_any_call_it_is_undone(kind: str, file: base.DiskFile
                                         ) -> None:
    whole = begin(kind, file)
    moments = whole.run().moments
    whole.check_done()
    assert {'create', 'child' if 'file' in kind else 'write'} <= set(moments)
    for number in range(len(moments)):
        job = begin(kind, file)
        assert job.run(number).is_over
        job.run(is_undone=True)
        job.check_undone()


def test_nobody_goes_on_with_it(kind: str, file: base.DiskFile) -> None:
    """An encrypted volume is not left in the clear, nor one without its
    content called complete."""
    job = begin(kind, file)
    moments = job.run().moments
    job = begin(kind, file)
    job.run(moments.index('create') + 1)
    if 'sealed' in kind:
        with pytest.raises(exception.InvalidInput, match='passphrase'):
            job.run()
        return
    job.run()
    job.check_undone()
    assert isinstance(job.operation.outcome, exception.Cancelled)
