# SPDX-License-Identifier: Apache-2.0
"""A real Ceph, Keystone, Glance and Cinder on loopback, as one object.

Lifecycle: absent → ``up`` → up → ``down`` → down → ``up`` …, and from
anywhere ``down(destroy=True)`` → absent. ``up`` may be called in any state
and after any crash: it starts what is missing. All methods lock the sandbox
against other commands, and raise SandboxError.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volume_rbd import exception
from volume_rbd.sandbox import (
    config,
    etc_ceph,
    files,
    layout,
    lock,
    packages,
    parts,
    ports,
    process,
    status,
)
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.parts import Parts
from volume_rbd.sandbox.state import State, find_state
from volume_rbd.sandbox.supervisor import Report

_PORTS = ('mon_v2', 'mon_v1', 'mariadb', 'keystone', 'glance',
          'rabbitmq', 'rabbitmq_nodes', 'epmd', 'cinder')
_LOCK_NAME = '.lock'
_LOCK_TIMEOUT_S = 240.0
_KILL_TIMEOUT_S = 10.0


def _be_silent(line: str) -> None:
    """Report nothing."""


class Sandbox:
    """One sandbox, found by its name.

    As a context manager it comes up with ``options`` and is destroyed.

    :param base: the folder of all sandboxes; by default
        $VOLUME_RBD_SANDBOX_DIR or ``.sandbox`` in the current folder.
    :param options: of the context manager.
    :param report: is told each step in one line, from several threads.
    """

    def __init__(self, name: str = 'default',
                 base: str | os.PathLike[str] | None = None, *,
                 options: Options | None = None,
                 report: Report = _be_silent) -> None:
        self.name = name
        self.folder = layout.get_folder(name, base)
        self._options = options
        self._report = report

    def __enter__(self) -> Sandbox:
        self.up(self._options)
        return self

    def __exit__(self, *_: object) -> None:
        self.down(destroy=True)

    # -- the whole sandbox ------------------------------------------------

    def up(self, options: Options | None = None) -> status.SandboxStatus:
        """Make the sandbox if it is absent and start all that is missing.

        Glance and Cinder go back to the configuration of the options. A
        sandbox without Cinder becomes one with it, or back.

        :param options: None keeps those of the last time, or the defaults.
        :raises SandboxError: something is not installed or does not start
            (what this call started is then stopped again), or an option
            that is settled for good differs.
        """
        files.make_private_folders([self.folder])
        with self._locked():
            state = find_state(self.folder)
            wanted = options or (state.options if state else Options())
            packages.require(ceph_only=wanted.ceph_only,
                             cinder=wanted.cinder)
            if state is None:
                state = self._make_state(wanted)
            _check_settled(state, wanted)
            state.options = wanted
            state.glance_overrides = {}
            state.cinder_overrides = {}
            self._add_ports(state)
            state.bind(self.folder)
            paths = self._prepare_folders(state)
            built = Parts(paths, state, self._report)
            built.up()
            _place_keyrings(paths, wanted)
            files.write_private(paths.config, config.render(paths, state))
        return self.status()

    def down(self, *, destroy: bool = False) -> None:
        """Stop every process; with ``destroy`` remove the data as well.

        An absent sandbox is not an error.
        """
        if find_state(self.folder) is None:
            return
        with self._locked():
            state = self._get_state()
            self._build(state).down()
            etc_ceph.remove(self._get_layout(state))
            if destroy:
                self._destroy(state)

    def status(self) -> status.SandboxStatus:
        """What runs. Takes no lock, so it answers while ``up`` is busy."""
        state = find_state(self.folder)
        if state is None:
            return status.SandboxStatus(
                self.name, str(self.folder), 'absent')
        health = None
        record = state.processes.get('mon')
        if record and process.is_alive(record):
            with contextlib.suppress(exception.SandboxError):
                health = self._build(state).ceph.get_health()
        return status.get_status(self._get_layout(state), state, health)

    def env(self, role: str = 'service') -> dict[str, str]:
        """Environment variables for clients: OS_*, CEPH_CONF, GLANCE …

        :param role: ``service`` (the volume service's user), or a user:
            admin, cinder, glance, nova, member, other.
        """
        state = self._get_state()
        try:
            return config.get_environment(
                self._get_layout(state), state, role)
        except KeyError:
            raise exception.InvalidName(
                f'The sandbox has no user for the role {role!r}.',
                remedy='Use service, admin, cinder, glance, nova, member '
                       'or other.',
            ) from None

    # -- changes while it runs --------------------------------------------

    def set_caps(self, *, glance_reads_volumes: bool | None = None,
                 nova_reads_volumes: bool | None = None,
                 nova_writes_images: bool | None = None) -> None:
        """Widen or narrow what Ceph allows; None leaves a switch alone.

        The options remember it. A client is bound by its new caps when it
        connects anew; Glance connects for every operation.
        """
        changes = {'glance_reads_volumes': glance_reads_volumes,
                   'nova_reads_volumes': nova_reads_volumes,
                   'nova_writes_images': nova_writes_images}
        with self._locked():
            state = self._get_state()
            state.options = dataclasses.replace(state.options, **{
                k: v for k, v in changes.items() if v is not None})
            state.save()
            self._build(state).ceph.apply_caps()

    def set_etc_ceph(self, is_on: bool) -> None:
        """Put the keyrings for os-brick into /etc/ceph, or take them away.

        The options remember it; ``down`` takes them away in any case. Cinder
        needs no restart. The stock driver uploads only with them.

        :raises SandboxError: keyrings that are not of this sandbox are there.
        """
        with self._locked():
            state = self._get_state()
            wanted = dataclasses.replace(state.options, etc_ceph=is_on)
            _place_keyrings(self._get_layout(state), wanted)
            state.options = wanted
            state.save()

    def configure_glance(self, overrides: files.Overrides) -> None:
        """Run Glance with options changed, on the same port.

        :param overrides: section -> option -> value, None to remove it;
            they replace earlier overrides, ``{}`` goes back to normal.
        :raises SandboxError: Glance does not start with them; it is then
            stopped, and starts again with the next call.
        """
        with self._locked():
            state = self._get_state()
            state.glance_overrides = {
                name: dict(values) for name, values in overrides.items()}
            state.save()
            self._start(state, 'glance')

    def configure_cinder(self, overrides: files.Overrides) -> None:
        """Run Cinder with options changed; only what they concern restarts.

        Options of a backend's section concern cinder-volume alone. Returns
        when the scheduler knows the backends; one that does not come up is
        only reported, for that is what some tests are about.

        :param overrides: section -> option -> value, None to remove it;
            they replace earlier overrides, ``{}`` goes back to normal.
        :raises SandboxError: no backend comes up at all, or there is no
            Cinder.
        """
        with self._locked():
            state = self._get_state()
            self._check_name(state, 'cinder-volume')
            state.cinder_overrides = {
                name: dict(values) for name, values in overrides.items()}
            state.save()
            self._build(state).configure_cinder()

    def stop_process(self, name: str) -> None:
        """Stop one process, with all it has started; see ``status``."""
        with self._locked():
            state = self._get_state()
            self._check_name(state, name)
            self._build(state).supervisor.stop(name, timeout_s=30.0)

    def start_process(self, name: str) -> None:
        """Start one process, or wake it, and wait until it serves."""
        with self._locked():
            state = self._get_state()
            self._check_name(state, name)
            self._start(state, name)

    def signal_process(self, name: str, number: int) -> None:
        """Signal one process; SIGSTOP, SIGCONT and SIGKILL its children too.

        After SIGKILL it is gone when this returns.
        """
        state = self._get_state()
        self._check_name(state, name)
        record = state.processes.get(name)
        members = process.find_session(record) if record else []
        whole = number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL)
        send = process.signal_session if whole else process.send_signal
        if record is None or not send(record, number):
            raise exception.SandboxError(
                f'{name} does not run.', remedy='Start it first.')
        if number == signal.SIGKILL:
            for member in (record, *members):
                process.wait_ended(member, _KILL_TIMEOUT_S)

    # -- the inside -------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with lock.hold(self.folder / _LOCK_NAME,
                           timeout_s=_LOCK_TIMEOUT_S):
                yield
        except FileNotFoundError as error:
            if self.folder.exists():
                raise
            raise _absent(self.name) from error

    def _get_state(self) -> State:
        state = find_state(self.folder)
        if state is None:
            raise _absent(self.name)
        return state

    def _get_layout(self, state: State) -> Layout:
        return Layout(self.folder, Path(state.socket_folder))

    def _build(self, state: State) -> Parts:
        return Parts(self._get_layout(state), state, self._report)

    def _make_state(self, options: Options) -> State:
        foreign = {p.name for p in self.folder.iterdir()} - {_LOCK_NAME}
        if foreign:
            raise exception.SandboxError(
                f'{self.folder} is not empty and no sandbox.',
                remedy='Choose another name or folder.')
        run = Layout(self.folder, self.folder).run
        if not layout.fits_sockets(run):
            run = Path(tempfile.mkdtemp(prefix='volume-rbd-'))
        chosen = ports.reserve(self.folder, _PORTS)
        return State(self.name, options, chosen, str(run))

    def _add_ports(self, state: State) -> None:
        """Reserve those that an earlier release had not thought of."""
        lacking = [name for name in _PORTS if name not in state.ports]
        if lacking:
            state.ports |= ports.add(self.folder, lacking)

    def _prepare_folders(self, state: State) -> Layout:
        sockets = Path(state.socket_folder)
        outside = not sockets.is_relative_to(self.folder)
        if outside and not sockets.is_dir():
            # The temporary folder was emptied, by a reboot most likely.
            state.socket_folder = tempfile.mkdtemp(prefix='volume-rbd-')
            state.save()
        paths = self._get_layout(state)
        files.make_private_folders([paths.run, paths.logs, paths.sockets])
        return paths

    def _start(self, state: State, name: str) -> None:
        built = self._build(state)
        try:
            built.start(name)
        except BaseException:
            built.supervisor.stop(name)
            raise

    def _destroy(self, state: State) -> None:
        shutil.rmtree(state.socket_folder, ignore_errors=True)
        ports.release(self.folder)
        shutil.rmtree(self.folder)
        self._report(f'{self.folder} is removed')

    def _check_name(self, state: State, name: str) -> None:
        names = parts.get_process_names(state)
        if name not in names:
            raise exception.InvalidName(
                f'The sandbox has no process {name!r}.',
                remedy=f'Use one of {", ".join(names)}.')


def _place_keyrings(paths: Layout, wanted: Options) -> None:
    if wanted.etc_ceph:
        etc_ceph.install(paths)
    else:
        etc_ceph.remove(paths)


def _absent(name: str) -> exception.SandboxError:
    return exception.SandboxError(
        f'There is no sandbox {name!r}.',
        remedy='Run "volume-rbd sandbox up".')


def _check_settled(state: State, wanted: Options) -> None:
    for field in ('ceph_only', 'osd_size_gib'):
        if getattr(state.options, field) != getattr(wanted, field):
            raise exception.SandboxError(
                f'The option {field} of the sandbox {state.name!r} was '
                f'settled when it was made: {getattr(state.options, field)}.',
                remedy='Destroy the sandbox first, or use another name.')
