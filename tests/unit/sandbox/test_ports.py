# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from concurrent import futures

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import lock, ports


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    path = tmp_path / 'ports'
    monkeypatch.setattr(ports, 'get_registry_path', lambda: path)
    return path


def _make_folder(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_port_somebody_listens_on_is_not_free():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        assert not ports.is_free(server.getsockname()[1])


def test_ports_are_below_the_range_of_outgoing_connections(tmp_path):
    folder = _make_folder(tmp_path, 'a')
    chosen = ports.reserve(folder, ['x', 'y'])
    assert set(chosen) == {'x', 'y'}
    assert all(port < 32768 for port in chosen.values())


def test_two_sandboxes_at_once_never_share_a_port(tmp_path):
    folders = [_make_folder(tmp_path, f's{i}') for i in range(8)]
    with futures.ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(
            lambda folder: ports.reserve(folder, 'abcde'), folders))
    every = [port for each in chosen for port in each.values()]
    assert len(every) == len(set(every)) == 40


def test_a_port_stays_reserved_while_its_sandbox_is_down(
        tmp_path, monkeypatch):
    monkeypatch.setattr(ports, 'PORT_RANGE', range(20000, 20001))
    monkeypatch.setattr(ports, 'is_free', lambda port: True)
    first = _make_folder(tmp_path, 'a')
    ports.reserve(first, ['x'])
    with pytest.raises(exception.SandboxError, match='No free TCP port'):
        ports.reserve(_make_folder(tmp_path, 'b'), ['x'])


@pytest.mark.parametrize('how', ['released', 'removed', 'asked again'])
def test_a_reservation_ends(how, tmp_path, monkeypatch):
    monkeypatch.setattr(ports, 'PORT_RANGE', range(20000, 20001))
    monkeypatch.setattr(ports, 'is_free', lambda port: True)
    folder = _make_folder(tmp_path, 'a')
    ports.reserve(folder, ['x'])
    if how == 'released':
        ports.release(folder)
    elif how == 'removed':
        folder.rmdir()
    other = folder if how == 'asked again' else _make_folder(tmp_path, 'b')
    assert ports.reserve(other, ['x']) == {'x': 20000}


def test_ports_are_added_beside_those_of_before(tmp_path):
    folder = _make_folder(tmp_path, 'a')
    before = ports.reserve(folder, ['x'])
    added = ports.add(folder, ['y', 'z'])
    others = ports.reserve(_make_folder(tmp_path, 'b'), ['x'])
    every = [*before.values(), *added.values(), *others.values()]
    assert set(added) == {'y', 'z'}
    assert len(set(every)) == 4


def test_a_torn_registry_is_begun_anew(tmp_path, registry):
    registry.write_text('{"20')
    assert ports.reserve(_make_folder(tmp_path, 'a'), ['x'])


def test_a_symbolic_link_is_not_followed(tmp_path, registry):
    registry.symlink_to(tmp_path / 'victim')
    with pytest.raises(OSError):
        ports.reserve(_make_folder(tmp_path, 'a'), ['x'])


def test_a_held_lock_is_waited_for_and_then_reported(tmp_path):
    path = tmp_path / 'lock'
    with (lock.hold(path, timeout_s=1),
          pytest.raises(exception.SandboxError, match='stayed locked'),
          lock.hold(path, timeout_s=0.1)):
        pass
    with lock.hold(path, timeout_s=1):
        pass


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path):
    path = tmp_path / 'lock'
    with lock.hold(path, timeout_s=1):
        path.unlink()
        with lock.hold(path, timeout_s=1):
            assert path.exists()


def test_a_lock_in_a_folder_that_is_gone_says_so(tmp_path):
    with (pytest.raises(FileNotFoundError),
          lock.hold(tmp_path / 'gone' / 'lock', timeout_s=1)):
        pass
