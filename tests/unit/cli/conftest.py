# SPDX-License-Identifier: Apache-2.0
"""The command line in this process, with the in-memory cloud behind it."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.world import World
from volume_rbd import manager
from volume_rbd.ceph import connection
from volume_rbd.cli import main
from volume_rbd.flows import registration

CONF = """\
[DEFAULT]
enabled_backends = ceph, lvm
[ceph]
rbd_pool = volumes
rbd_user = cinder
enable_clone_optimization = true
clone_registration_timeout = 1
[lvm]
volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver
"""


@dataclasses.dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program may set signals and logging; here it must not last."""
    for name in ('VOLUME_RBD_CONFIG', 'OS_AUTH_URL', 'OS_CLOUD'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(manager, 'DEFAULT_FILES', ())
    monkeypatch.setattr(registration, '_POLL_FIRST_S', 0.001)
    signals = {number: signal.getsignal(number)
               for number in (signal.SIGINT, signal.SIGTERM)}
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level
              for name in (*main._QUIET_LOGGERS, 'py.warnings')}
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    for number, handler in signals.items():
        signal.signal(number, handler)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``volume-rbd`` with arguments."""
    monkeypatch.setattr('cliff.app.App.NAME', 'volume-rbd')

    def run_it(*arguments: str) -> Ended:
        capsys.readouterr()
        try:
            code = main.main(arguments)
        except SystemExit as ended:  # argparse's own
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run_it


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def cloud(world: World, run: Run, tmp_path: pathlib.Path,
          monkeypatch: pytest.MonkeyPatch) -> Run:
    """Like *run*, with a configuration whose cluster and Glance are those of
    *world*; only the two doors to the real ones are moved."""
    path = tmp_path / 'volume-rbd.conf'
    path.write_text(CONF)
    monkeypatch.setenv('VOLUME_RBD_CONFIG', str(path))
    monkeypatch.setattr(connection, 'connect', lambda config: world.cluster)
    monkeypatch.setattr(manager, 'open_glance',
                        lambda conf, environ: world.glance)
    return run
