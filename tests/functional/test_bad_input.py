# SPDX-License-Identifier: Apache-2.0
"""The command line and what people, and clusters, do wrong.

Each case: a documented exit code, a sentence with a remedy, no traceback, no
secret (:meth:`House.run` looks for both), and nothing changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional import content
from tests.functional.content import GIB, MIB
from tests.functional.house import PROGRAM, House
from tests.sampling import more

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)
NOBODY = str(uuid.UUID(int=7))


def expect(house: House, words: list[str], code: int, *texts: str,
           **options: object) -> str:
    with house.nothing_changes():
        done = house.run(*words, **options)
    assert done.returncode == code, done.stdout + done.stderr
    for text in texts:
        assert text.lower() in done.stderr.lower(), done.stderr
    return done.stderr


# -- what was typed -----------------------------------------------------------

@pytest.mark.parametrize(('words', 'code', 'text'), [
    (['create', 'v', '--size', '0'], 2, 'whole number'),
    (['create', 'v', '--size', '-3'], 2, 'whole number'),
    (['create', 'v', '--size', 'ten'], 2, 'whole number'),
    (['create', 'v', '--size', '1.5'], 2, 'whole number'),
    (['create', 'v', '--size', '9999999999999999'], 2, 'more than'),
    (['create', 'v'], 2, '--size'),
    (['create', 'a/b', '--size', '1'], 2, 'name'),
    (['create', 'a@b', '--size', '1'], 2, 'name'),
    (['create', 'v', '--image', NOBODY], 3, 'image list'),
    (['create', 'v', '--image', '../../v3/users'], 3, 'not the id'),
    (['create', 'v', '--source', 'none-such'], 3, 'none-such'),
    (['create', 'v', '--snapshot', 'none-such@s'], 3, 'none-such'),
    (['create', 'v', '--snapshot', 'none-such'], 2, 'VOLUME@SNAPSHOT'),
    (['upload', 'none-such', '--image-name', 'x'], 3, 'none-such'),
    (['upload', 'v', '--image-name', 'x', '--property', 'novalue'], 2,
     'KEY=VALUE'),
    (['show', 'none-such'], 3, 'none-such'),
    (['delete', 'none-such'], 3, 'none-such'),
    (['extend', 'none-such', '2'], 3, 'none-such'),
    (['snapshot', 'create', 'none-such@s'], 3, 'none-such'),
    (['list', '--backend', 'none-such'], 3, 'optimized'),
    (['no-such-command'], 2, ''),
    (['create'], 2, '')])
def test_a_request_that_makes_no_sense(
        house: House, words: list[str], code: int, text: str) -> None:
    expect(house, words, code, text)


def test_a_name_that_exists_is_not_given_again(house: House) -> None:
    image = house.member.make(DATA)
    volume = house.volume(DATA, GIB)
    for source in (['--size', '1'], ['--image', image],
                   ['--source', volume]):
        expect(house, ['create', volume, *source], 4, 'exist')
    assert house.cluster.digest('volumes', volume) == DIGEST


def test_a_size_below_the_images_or_above_the_quota(house: House) -> None:
    image = house.member.make(DATA, min_disk=2)
    expect(house, ['create', 'v', '--image', image, '--size', '1'], 2,
           'needs 2 GiB', 'ask for')
    limit = {'DEFAULT': {'per_volume_gigabytes': 1}}
    for words in (['create', 'v', '--size', '2'],
                  ['create', 'v', '--image', image]):
        expect(house, words, 7, 'per_volume_gigabytes', overrides=limit)


def test_a_store_that_does_not_exist(house: House) -> None:
    volume = house.volume(DATA)
    for backend in ('ceph', 'optimized'):
        expect(house, ['--backend', backend, 'upload', volume,
                       '--image-name', 'x', '--store', 'none'], 3,
               'rbd', 'file')


def test_a_volume_does_not_shrink(house: House) -> None:
    volume = house.volume(DATA, 2 * GIB)
    expect(house, ['extend', volume, '1'], 2, 'larger')
    expect(house, ['extend', volume, '2'], 2, 'larger')


def test_a_volume_with_snapshots_is_not_deleted(house: House) -> None:
    volume = house.volume(DATA, GIB)
    house.driver().snapshots.create(volume, 's')
    expect(house, ['delete', volume], 4, 'snapshot delete')
    expect(house, ['snapshot', 'create', f'{volume}@s'], 4, 'exist')
    expect(house, ['snapshot', 'create', volume, 'volume_rbd.mine'], 2)
    expect(house, ['snapshot', 'delete', f'{volume}@t'], 3, 'no snapshot')


def test_a_volume_in_use_is_not_deleted(house: House) -> None:
    volume = house.volume(DATA, GIB)
    with house.cluster.open('volumes', volume):
        expect(house, ['delete', volume], 4, 'open', '127.0.0.1')
    assert house.cluster.digest('volumes', volume) == DIGEST


def test_the_others_are_deleted_where_one_cannot_be(house: House) -> None:
    volume = house.volume(DATA, GIB)
    done = house.run('delete', 'none-such', volume)
    assert done.returncode == 3
    assert house.cluster.names('volumes') == []


# -- images that cannot be used -----------------------------------------------

def test_a_queued_image(house: House) -> None:
    image = house.member.create()
    expect(house, ['create', 'v', '--image', image], 4, 'queued', 'wait')


def test_a_deactivated_image(house: House) -> None:
    image = house.member.make(DATA)
    house.service.request('POST', f'/images/{image}/actions/deactivate')
    expect(house, ['create', 'v', '--image', image], 4, 'deactivated')


def test_anothers_private_image_looks_like_none(house: House) -> None:
    image = house.other.make(DATA)
    expect(house, ['create', 'v', '--image', image], 3, 'another project')


def test_an_image_that_is_deleted_between_plan_and_clone(
        house: House) -> None:
    from tests.functional.steps import Steps
    from volume_rbd import exception
    for store in ('rbd', 'file'):
        image = house.member.make(DATA, store)
        report = Steps('choosing a strategy',
                       lambda image=image: house.member.delete(image))
        before = house.cluster.names('volumes')
        with pytest.raises(exception.GlanceImageNotFound):
            house.create(image, report=report)
        assert house.cluster.names('volumes') == before


# -- the configuration --------------------------------------------------------

def test_a_pool_or_user_or_keyring_that_does_not_exist(house: House) -> None:
    for option, code, text in (
            ({'rbd_pool': 'none-such'}, 3, 'osd pool ls'),
            ({'rbd_user': 'none-such'}, 2, 'keyring'),
            ({'rbd_ceph_conf': '/none/such'}, 2, 'rbd_ceph_conf')):
        expect(house, ['list'], code, text, overrides={'ceph': option})


def test_a_keyring_with_another_key(house: House, tmp_path: Path) -> None:
    conf = tmp_path / 'ceph.conf'
    keyring = tmp_path / 'keyring'
    key = 'AQAAAAAAAAAAABAAfunctionaltestfunctionaQ=='
    keyring.write_text(f'[client.cinder]\n\tkey = {key}\n')
    text = Path(house.cluster.conf).read_text()
    conf.write_text('\n'.join(
        f'keyring = {keyring}' if line.startswith('keyring') else line
        for line in text.splitlines()) + '\n')
    done = house.run('list', overrides={'ceph': {
        'rbd_ceph_conf': conf, 'rados_connect_timeout': 5}})
    assert done.returncode in (2, 5), done.stderr
    assert key not in done.stderr
    assert 'keyring' in done.stderr


def test_a_configuration_file_that_does_not_exist(house: House) -> None:
    expect(house, ['list', '--config-file', '/none/such.conf'], 2,
           '--config-file')


def test_credentials_that_are_wrong_or_missing(house: House) -> None:
    image = house.member.make(DATA)
    words = ['create', 'v', '--image', image]
    expect(house, words, 5, 'OS_', environ={'OS_PASSWORD': 'Wr0ng-secret'})
    said = expect(house, words, 2, 'OS_PASSWORD',
                  environ={'OS_PASSWORD': ''})
    assert 'Wr0ng' not in said
    expect(house, words, 6, 'http://127.0.0.1:1/v3',
           environ={'OS_AUTH_URL': 'http://127.0.0.1:1/v3'},
           overrides={'glance': {'auth_url': 'http://127.0.0.1:1/v3'}})


def test_glance_at_a_wrong_address(house: House) -> None:
    expect(house, ['create', 'v', '--image', NOBODY], 6, 'glance-api',
           overrides={'DEFAULT': {
               'glance_api_servers': 'http://127.0.0.1:1'}})


def test_monitors_that_do_not_answer_are_waited_for_as_configured(
        house: House, tmp_path: Path) -> None:
    conf = tmp_path / 'ceph.conf'
    conf.write_text('\n'.join(
        'mon host = 127.0.0.1:1' if line.startswith('mon host') else line
        for line in Path(house.cluster.conf).read_text().splitlines()) + '\n')
    started = time.monotonic()
    expect(house, ['list'], 6, 'did not answer', 'ceph -s', overrides={
        'ceph': {'rbd_ceph_conf': conf, 'rados_connect_timeout': 2,
                 'rados_connection_retries': 1,
                 'rados_connection_interval': 1}})
    assert 4 < time.monotonic() - started < 25


def test_monitors_that_hang_are_waited_for_as_configured(
        house: House) -> None:
    overrides = {'ceph': {'rados_connect_timeout': 2,
                          'rados_connection_retries': 0}}
    house.sandbox.signal_process('mon', signal.SIGSTOP)
    started = time.monotonic()
    try:
        done = house.run('list', overrides=overrides)
    finally:
        house.sandbox.signal_process('mon', signal.SIGCONT)
    assert done.returncode == 6
    assert time.monotonic() - started < 25


def test_osds_that_hang_are_not_waited_for_without_end(
        house: House) -> None:
    overrides = {'ceph': {'rados_connect_timeout': 2,
                          'rados_connection_retries': 0}}
    house.sandbox.signal_process('osd', signal.SIGSTOP)
    try:
        done = house.run('list', overrides=overrides)
    finally:
        house.sandbox.signal_process('osd', signal.SIGCONT)
    assert done.returncode == 6
    assert 'ceph -s' in done.stderr


# -- no room ------------------------------------------------------------------

@pytest.fixture
def full_pool(house: House) -> Iterator[House]:
    """The volumes' pool has reached its quota."""
    image = house.member.make(content.random_bytes(16 * MIB), 'file')
    with house.cluster.full('volumes'):
        house.image = image  # type: ignore[attr-defined]
        yield house


@pytest.mark.timeout(200)
def test_a_full_pool_is_said_and_does_not_hang(full_pool: House) -> None:
    house = full_pool
    for words in (['create', 'v', '--image', house.image],
                  ['create', 'v', '--size', '1']):
        started = time.monotonic()
        expect(house, words, 7, 'quota', timeout_s=45)
        assert time.monotonic() - started < 40


# -- Ctrl-C and SIGTERM -------------------------------------------------------

def interrupt(house: House, words: list[str], step: str, number: int,
              pause_s: float = 0.0) -> tuple[int, str, str]:
    """Send the signal when *step* is shown; :returns: code, out, err."""
    lines = []
    with subprocess.Popen(
            [PROGRAM, *words], env=house.environ(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        killer = threading.Timer(100, process.kill)
        killer.start()
        try:
            for line in process.stderr:
                lines.append(line)
                if line.strip() == step:
                    time.sleep(pause_s)
                    os.kill(process.pid, number)
                    break
            lines.append(process.stderr.read())
            out = process.stdout.read()
            code = process.wait()
        finally:
            killer.cancel()
    text = ''.join(lines)
    house.check_output(out + text)
    assert step in text, text
    return code, out, text


@pytest.mark.parametrize(('step', 'number'), [
    more('creating the image record', signal.SIGINT),
    ('creating the image record', signal.SIGTERM),
    more('taking a snapshot of the volume', signal.SIGTERM),
    more('choosing a strategy', signal.SIGINT),
    ('cloning the volume', signal.SIGINT),
    more('taking the snapshot of the image', signal.SIGTERM),
    ('registering the image', signal.SIGINT),
    ('registering the image', signal.SIGTERM),
    more('waiting for the image to be active', signal.SIGINT),
    ('removing the snapshot of the volume', signal.SIGTERM)])
def test_an_upload_by_clone_is_interrupted(
        house: House, step: str, number: int) -> None:
    volume = house.volume(DATA)
    before = house.describe()
    code, out, said = interrupt(
        house, ['--backend', 'optimized', 'upload', volume, '--image-name',
                'x', '-f', 'json'], step, number)
    if code == 130:
        house.check_same(before)
        assert 'cancel' in said.lower()
        return
    # Too late: Glance had it already. Then it is there, whole.
    assert step in ('registering the image',
                    'waiting for the image to be active',
                    'removing the snapshot of the volume')
    assert code == 0, said
    (image,) = house._image_ids()
    assert image in out
    assert house.member.status(image) == 'active'
    assert house.member.digest(image) == DIGEST
    assert house.cluster.snapshots('volumes', volume) == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('pause_s', [more(0.0), 0.7])
def test_a_chunked_upload_is_interrupted(
        house: House, number: int, pause_s: float) -> None:
    volume = house.volume(DATA, GIB)
    with house.nothing_changes():
        code, _, said = interrupt(
            house, ['upload', volume, '--image-name', 'x'],
            'uploading the volume', number, pause_s)
    assert code == 130, said
    assert 'undone' in said


@pytest.mark.parametrize(('step', 'number', 'pause_s'), [
    more('choosing a strategy', signal.SIGINT, 0),
    more('creating the volume', signal.SIGTERM, 0),
    ('downloading the image', signal.SIGINT, 0),
    ('downloading the image', signal.SIGTERM, 0.2)])
def test_a_download_is_interrupted(
        house: House, step: str, number: int, pause_s: float) -> None:
    image = house.member.make(bytes(200 * MIB), 'file')
    with house.nothing_changes():
        code, _, said = interrupt(
            house, ['create', 'v', '--image', image], step, number, pause_s)
    assert code == 130, said


@pytest.mark.parametrize(('step', 'number'), [
    ('choosing a strategy', signal.SIGTERM),
    ('cloning the image', signal.SIGINT)])
def test_a_create_by_clone_is_interrupted(
        house: House, step: str, number: int) -> None:
    image = house.member.make(DATA)
    before = house.describe()
    code, _, said = interrupt(
        house, ['create', 'v', '--image', image], step, number)
    if code == 130:
        house.check_same(before)
        return
    assert code == 0, said
    assert house.cluster.digest('volumes', 'v') == DIGEST


@pytest.mark.parametrize('pause_s', [
    0.7, more(1.0), 1.3, more(1.6)])
def test_a_clone_of_a_volume_is_interrupted(
        house: House, pause_s: float) -> None:
    """It shows no step: the signal comes at some moment."""
    volume = house.volume(DATA, GIB)
    before = house.describe()
    process = subprocess.Popen(
        [PROGRAM, 'create', 'v', '--source', volume], env=house.environ(),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(pause_s)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    house.check_output(out + said)
    if process.returncode == 0:
        assert house.cluster.digest('volumes', 'v') == DIGEST
        house.driver().volumes.delete('v')
        house.purge()
    else:
        assert process.returncode in (130, -signal.SIGINT), said
    house.check_same(before)
