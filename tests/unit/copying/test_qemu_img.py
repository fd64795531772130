# SPDX-License-Identifier: Apache-2.0
"""The child that converts: what it is given, and what it is kept from."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from volume_rbd import exception, opts, progress
from volume_rbd.copying import luks, qemu_img, stalled
from volume_rbd.copying.qemu_img import FileDisk, QemuImg, RBDDisk

CLUSTER = opts.ClusterConfig(user='cinder', ceph_conf='/etc/ceph/a.conf')
SOURCE = RBDDisk('images', 'an-image', CLUSTER, 'snap')
TARGET = RBDDisk('volumes', 'a-volume', CLUSTER)
KEY = b'0123456789abcdef'
MIB = 1024 ** 2
Program = Callable[[str], QemuImg]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program of a shell script."""
    def make(script: str) -> QemuImg:
        path = tmp_path / 'qemu-img'
        path.write_text(f'#!/bin/bash\n{script}\n')
        path.chmod(0o755)
        return QemuImg(str(path))
    return make


def convert(converter: QemuImg, source: RBDDisk | FileDisk = SOURCE,
            disk_format: str = 'vdi', *, key: bytes | None = None,
            report: progress.Progress | None = None) -> None:
    converter.to_disk(source, disk_format, TARGET, is_zero=key is None,
                      size_bytes=1000, key=key,
                      report=report or progress.Silent())


def said(converter: QemuImg, **options: object) -> str:
    """What a program that fails has said."""
    with pytest.raises(exception.ConversionFailed) as caught:
        convert(converter, **options)  # type: ignore[arg-type]
    return caught.value.message


# -- what it is given ---------------------------------------------------------

def test_source_and_target_are_named_without_anything_to_guess(
        program: Program) -> None:
    words = said(program('printf "%s " "$@" >&2; exit 1'))
    names = [json.loads(text) for text in _objects(
        program('printf "%s\\n" "$@" >&2; exit 1'))]
    assert names == [
        {'driver': 'vdi', 'file': {
            'driver': 'rbd', 'pool': 'images', 'image': 'an-image',
            'snapshot': 'snap', 'user': 'cinder',
            'conf': '/etc/ceph/a.conf'}},
        {'driver': 'raw', 'file': {
            'driver': 'rbd', 'pool': 'volumes', 'image': 'a-volume',
            'user': 'cinder', 'conf': '/etc/ceph/a.conf'}}]
    assert 'json' not in words  # a person does not want to read it


def _objects(converter: QemuImg) -> list[str]:
    """The names on its command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qemu_img, '_without_names', lambda text: text)
        patch.setattr(qemu_img, '_explain', lambda code, text, cluster:
                      exception.ConversionFailed(text))
        lines = said(converter).splitlines()
    return [line.removeprefix('json:') for line in lines
            if line.startswith('json:')]


@pytest.mark.parametrize(('glance', 'qemu'), [
    ('iso', 'raw'), ('vhd', 'vpc'), ('ploop', 'parallels'),
    ('vdi', 'vdi'), ('raw', 'raw')])
def test_a_format_is_told_in_the_words_of_qemu(glance: str, qemu: str
                                               ) -> None:
    name = qemu_img._name(SOURCE, glance).removeprefix('json:')
    assert json.loads(name)['driver'] == qemu


def test_a_name_that_is_to_be_made_is_escaped() -> None:
    cluster = opts.ClusterConfig(user='a:b', ceph_conf='/x=y/c@d.conf')
    disk = RBDDisk('p:1', 'i@s', cluster)
    assert disk.new_name() == (
        r'rbd:p\:1/i\@s:id=a\:b:conf=\/x\=y\/c\@d.conf')


def test_another_cluster_name_brings_its_own_files() -> None:
    cluster = opts.ClusterConfig(cluster_name='west', user='cinder')
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('CEPH_CONF', raising=False)
        assert RBDDisk('p', 'i', cluster).node()['conf'] == (
            '/etc/ceph/west.conf')
    assert qemu_img._environment(cluster)['CEPH_KEYRING'] == (
        '/etc/ceph/west.client.cinder.keyring')


def test_the_key_comes_through_a_pipe_and_nowhere_else(program: Program
                                                       ) -> None:
    script = '''
        for word in "$@"; do case "$word" in secret*) object=$word;; esac; done
        file=${object##*file=}
        echo "read:$(cat $file)" >&2
        tr '\\0' ' ' < /proc/$$/cmdline >&2; echo >&2
        env | tr '\\n' ' ' >&2; exit 1'''
    text = said(program(script), key=KEY)
    assert f'read:{KEY.decode()}' in text
    assert text.count(KEY.decode()) == 1
    assert 'format=raw' in text


@pytest.mark.parametrize('what', ['header', 'format', 'open'])
def test_whatever_is_encrypted_is_opened_through_a_pipe(
        program: Program, what: str) -> None:
    converter = program('''
        for word in "$@"; do case "$word" in secret*) object=$word;; esac; done
        echo "$(cat ${object##*file=}) $@" >&2; exit 1''')
    silent = progress.Silent()
    act: Callable[[], None] = {
        'header': lambda: converter.make_luks_header(
            TARGET, luks.Encryption(KEY.decode(), 'aes-cbc-plain', 128, 700),
            report=silent),
        'format': lambda: converter.to_format(
            SOURCE, TARGET, 'raw', size_bytes=1000, report=silent, key=KEY),
        'open': lambda: converter.open_luks(TARGET, KEY, report=silent),
    }[what]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qemu_img, '_without_names', lambda text: text)
        with pytest.raises(exception.ConversionFailed) as caught:
            act()
    said = caught.value.message
    assert f'failed: {KEY.decode()} ' in said
    assert said.count(KEY.decode()) == 1
    assert {'header': 'iter-time=700,cipher-alg=aes-128,cipher-mode=cbc',
            'format': '"driver": "luks"', 'open': '"driver": "luks"'
            }[what] in said


def test_a_key_that_does_not_open_it_is_an_error_of_its_own(
        program: Program) -> None:
    converter = program('echo "qemu-img: Could not open \'json:{}\': Invalid '
                        'password, cannot unlock any keyslot" >&2; exit 1')
    with pytest.raises(exception.WrongPassphrase) as caught:
        converter.open_luks(TARGET, KEY, report=progress.Silent())
    assert caught.value.remedy


def test_a_new_key_is_set_before_the_old_one_goes(
        program: Program, tmp_path: Path) -> None:
    """Each time with both keys, and opened with the one that is there."""
    log = tmp_path / 'log'
    os.mkfifo(log)  # it may write no file
    script = f'''
        keys=
        for word in "$@"; do case "$word" in secret*)
            keys+=$(cat ${{word##*file=}});; esac; done
        echo "$keys $@" > {log}
        mkdir {log}.again || exit 0
        echo "Unable to get accurate CPU usage." >&2; exit 1'''
    with open(os.open(log, os.O_RDWR), 'rb', buffering=0) as told:
        program(script).change_luks_key(TARGET, b'AAA', b'BBB',
                                        report=progress.Silent())
        lines = told.read(65536).decode().splitlines()
    first, again, last = [re.sub(r'file=/dev/fd/\d+', '', line)
                          for line in lines]
    assert first == again
    assert first.startswith('AAABBB amend ')
    assert '-o state=active,new-secret=new' in first
    assert '"key-secret": "key"' in first
    assert '-o state=inactive,old-secret=key' in last
    assert '"key-secret": "new"' in last


def to_file(converter: QemuImg, tmp_path: Path, disk_format: str = 'vdi'
            ) -> None:
    converter.to_file(
        FileDisk(str(tmp_path / 'from'), is_ours=True), disk_format,
        FileDisk(str(tmp_path / 'to'), is_ours=True), size_bytes=4 * MIB,
        report=progress.Silent())


def test_a_file_that_is_made_may_be_as_large_as_the_disk_and_no_larger(
        program: Program, tmp_path: Path) -> None:
    with pytest.raises(exception.ConversionFailed, match='f=4096 c=0'):
        to_file(program('echo f=$(ulimit -f) c=$(ulimit -c) >&2; exit 1'),
                tmp_path)
    target = tmp_path / 'to'
    fill = 'dd if=/dev/zero bs=1M count={count} of=' + str(target)
    to_file(program(fill.format(count=4)), tmp_path)
    assert target.stat().st_size == 4 * MIB
    with pytest.raises(exception.ConversionFailed):
        to_file(program(fill.format(count=5)), tmp_path)
    assert target.stat().st_size == 4 * MIB


def test_files_of_ours_are_not_locked_by_qemu(tmp_path: Path) -> None:
    names = [FileDisk(str(tmp_path / name), is_ours=True).node()
             for name in ('from', 'to')]
    assert [name['locking'] for name in names] == ['off', 'off']
    assert 'locking' not in FileDisk(str(tmp_path / 'from')).node()


def test_a_file_is_checked_before_it_becomes_another(program: Program,
                                                     tmp_path: Path) -> None:
    with pytest.raises(exception.ConversionFailed, match='cut short'):
        to_file(program('[ $1 != check ] || exit 1'), tmp_path, 'qcow2')


@pytest.mark.parametrize('disk_format', ['qcow2', 'vmdk'])
def test_no_backing_file_is_ever_followed(disk_format: str) -> None:
    name = qemu_img._name(SOURCE, disk_format).removeprefix('json:')
    assert json.loads(name)['backing'] is None


@pytest.mark.parametrize(('code', 'is_refused'), [
    (0, False), (1, True), (2, True), (3, False), (63, True)])
@pytest.mark.parametrize('disk_format', ['qcow2', 'vmdk', 'vhdx'])
def test_a_file_is_checked_before_it_is_converted(
        program: Program, disk_format: str, code: int, is_refused: bool
        ) -> None:
    converter = program(f'[ $1 != check ] || exit {code}')
    if is_refused:
        with pytest.raises(exception.ConversionFailed, match='cut short'):
            convert(converter, disk_format=disk_format)
    else:
        convert(converter, disk_format=disk_format)


# -- what it is kept from -----------------------------------------------------

def test_it_has_limits_and_nothing_of_our_environment(
        program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OS_PASSWORD', 'hidden')
    text = said(program('echo $(ulimit -v) $(ulimit -f) $(ulimit -c) >&2;'
                        'env >&2; exit 1'))
    assert 'hidden' not in text
    text = said(program('echo v=$(ulimit -v) f=$(ulimit -f) c=$(ulimit -c) '
                        '>&2; exit 1'))
    assert f'v={4 * 1024 ** 2} f=0 c=0' in text


def test_it_cannot_write_a_local_byte(program: Program, tmp_path: Path
                                      ) -> None:
    path = tmp_path / 'file'
    with pytest.raises(exception.ConversionFailed):
        convert(program(f'exec dd if=/dev/zero of={path} bs=1 count=1'))
    assert not path.exists() or path.stat().st_size == 0


def test_it_inherits_no_file_of_ours(program: Program, tmp_path: Path
                                     ) -> None:
    with (tmp_path / 'open').open('w') as stream:
        text = said(program('ls -l /proc/$$/fd >&2; ls /proc/$$/fd | wc -l '
                            '>&2; exit 1'))
        assert str(tmp_path / 'open') not in text
        assert not stream.closed


def test_it_ends_with_whoever_started_it(program: Program) -> None:
    text = said(program('grep -q . /proc/$$/status; exec python3 -c "'
                        'import ctypes, sys; s = ctypes.c_int();'
                        'ctypes.CDLL(None).prctl(2, ctypes.byref(s));'
                        'sys.exit(str(s.value))"'))
    assert 'failed: 9' in text


# -- how it goes --------------------------------------------------------------

def test_its_progress_is_ours(program: Program) -> None:
    report = progress.Cancellable()
    convert(program(r'printf "    (0.00/100%%)\r"; '
                    r'printf "    (25.50/100%%)\r    (50.10/100%%)\r"'),
            report=report)
    assert (report.total_bytes, report.done_bytes) == (1000, 1000)


def test_what_is_told_twice_is_counted_once(program: Program) -> None:
    seen: list[int] = []

    class Report(progress.Silent):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            seen.append(done_bytes)

    convert(program(r'for i in 10 10 5 30; do printf " ($i.00/100%%)\r"; '
                    'sleep 0.05; done'), report=Report())
    assert sum(seen) == 1000
    assert all(count >= 0 for count in seen)


def test_it_is_ended_within_a_second_of_a_cancel(program: Program) -> None:
    report = progress.Cancellable()
    threading.Timer(0.3, report.cancel).start()
    started = time.monotonic()
    with pytest.raises(exception.Cancelled):
        convert(program('exec sleep 60'), report=report)
    assert time.monotonic() - started < 1.3


def test_one_that_does_not_listen_is_killed(
        program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_img, '_KILL_AFTER_S', 0.2)
    report = progress.Cancellable()
    threading.Timer(0.3, report.cancel).start()
    with pytest.raises(exception.Cancelled):
        convert(program('trap "" TERM; while :; do sleep 0.1; done'),
                report=report)


def test_one_that_says_much_does_not_stand_still(program: Program) -> None:
    text = said(program('for i in {1..3000}; do echo "line $i of many more '
                        'words" >&2; printf "(1.00/100%%)"; done; exit 1'))
    assert 'line 3000' in text
    assert 'line 2000 ' not in text


@pytest.mark.parametrize(('words', 'kind'), [
    ('error writing: No space left on device', exception.NoSpace),
    ('error connecting: No such file or directory',
     exception.ConfigurationError),
    ('error connecting: Operation not permitted',
     exception.CephPermissionDenied),
    ('error connecting: Connection timed out', exception.ClusterUnavailable),
    ("Unknown driver 'rbd'", exception.ConfigurationError),
    ('Image is corrupt', exception.ConversionFailed)])
def test_its_last_words_are_in_the_error(
        program: Program, words: str, kind: type[exception.VolumeRBDError]
        ) -> None:
    with pytest.raises(exception.VolumeRBDError) as caught:
        convert(program(f'echo "qemu-img: {words}" >&2; exit 1'))
    assert type(caught.value) is kind
    assert words in caught.value.message
    if kind is exception.ConfigurationError:
        assert 'client.cinder' in caught.value.remedy


def test_that_it_is_not_installed_is_said() -> None:
    with pytest.raises(exception.ConfigurationError, match='not installed'):
        convert(QemuImg('no-such-program'))


def test_who_waits_for_room_in_a_pool_that_is_full_is_ended(
        program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def check_room(pool: str) -> None:
        asked.append(pool)
        if len(asked) > 1:
            raise exception.NoSpace('The pool is full.')

    monkeypatch.setattr(stalled, '_PATIENCE_S', 0.3)
    made = program('exec sleep 60')
    started = time.monotonic()
    with pytest.raises(exception.NoSpace):
        convert(QemuImg(made._program, check_room=check_room))
    assert asked == ['volumes', 'volumes']
    assert time.monotonic() - started < 30
