# SPDX-License-Identifier: Apache-2.0
"""Records of jobs that somebody else wrote who may write to the pool."""

from __future__ import annotations

import json
import pathlib
import uuid
from typing import Any

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.desk import DISK_BYTES, Desk

_FORGED = str(uuid.UUID(int=7))


def _forged(**changes: Any) -> dict[str, Any]:
    return {
        'id': _FORGED, 'operation': 'create_from_image',
        'claims': [f'volume/{_FORGED}'], 'node': '', 'clients': [],
        'created_at': 1.0, 'project_id': None, 'user_id': None,
        'is_undone_when_lost': False, 'has_secret': False,
        'arguments': {
            'job': _FORGED, 'image_id': _FORGED, 'image_size_bytes': MIB,
            'has_passphrase': False, 'volume_name': _FORGED,
            'disk_format': 'raw', 'size_bytes': MIB, 'is_size_fixed': True,
            'source': None, 'settings': None, 'choices': [{
                'strategy': 'download', 'reason': 'x', 'sentence': 'x'}]},
        **changes}


@pytest.mark.parametrize('kind', ['factory', 'tenant', 'path'])
def test_a_forged_record_is_refused_and_harms_nothing(
        desk: Desk, tmp_path: pathlib.Path, kind: str) -> None:
    victim = desk.house.volume(content.random_bytes(MIB))
    trap = tmp_path / 'trap'
    job = _forged()
    if kind == 'factory':
        job = _forged(operation='subprocess.getoutput',
                      arguments={'cmd': f'touch {trap}'})
    elif kind == 'tenant':
        image = desk.house.other.make(content.random_bytes(MIB))
        job['project_id'] = desk.house.other.get(image)['owner']
        job['arguments']['image_id'] = image
    else:
        job['arguments']['volume_name'] = f'../volumes/{victim}'
        job['arguments']['source'] = ['.mgr', 'x', 'y']
    _plant(desk, job, trap)
    try:
        with desk.house.nothing_changes():
            [row] = desk.jobs()
            assert (row['job'], row['state']) == (_FORGED, 'refused')
            assert '--forget' in desk.ask('jobs', 'show', _FORGED)['error']
            assert desk.run('jobs', 'resume').strip() == ''
            desk.run('jobs', 'resume', _FORGED, code=2)
            desk.run('jobs', 'cancel', _FORGED, code=2)
            desk.run('plan', 'upload', victim)
            assert not trap.exists()
    finally:
        desk.run('jobs', 'cancel', _FORGED, '--forget')
    assert desk.jobs() == []


def _plant(desk: Desk, job: dict[str, Any], trap: pathlib.Path) -> None:
    """As whoever may write to the pool can, a book and a note included."""
    desk.run('delete', desk.house.volume(b'', MIB))  # the records are made
    text = json.dumps(job)
    desk.ledger.write('open', {
        f'job.{_FORGED}': json.dumps({'job': text, 'signature': '0' * 64}),
        f'claim.volume/{_FORGED}': _FORGED})
    factory = {'factory': {'name': 'subprocess.getoutput',
                           'args': [f'touch {trap}'], 'kwargs': {}}}
    desk.ledger.write(f'book.{_FORGED}', {
        'book': json.dumps({'uuid': _FORGED, 'name': 'x', 'meta': factory}),
        f'flow.{_FORGED}': json.dumps({
            'uuid': _FORGED, 'name': 'x', 'meta': factory})})
    desk.ledger.write(f'job.{_FORGED}', {
        'note': json.dumps({'attempts': 'x', 'step': '\x1b[2J'})})


def test_a_signed_record_whose_arguments_were_changed_is_refused(
        desk: Desk) -> None:
    """Another volume, in a record that is ours otherwise."""
    volume = desk.house.volume(content.random_bytes(DISK_BYTES))
    with desk.house.nothing_changes():
        job = desk.leave_half('upload', volume, '--image-name', 'x')
        text = desk.ledger.read('open')[f'job.{job}']
        changed = text.replace(volume, 'volume-other')
        assert changed != text
        desk.ledger.write('open', {f'job.{job}': changed})
        before = desk.house.describe()
        assert [row['state'] for row in desk.jobs()] == ['refused']
        desk.run('jobs', 'resume', job, code=2)
        desk.house.check_same(before)

        desk.ledger.write('open', {f'job.{job}': text})
        assert desk.ask('jobs', 'cancel', job)['state'] == 'undone'
