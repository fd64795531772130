# SPDX-License-Identifier: Apache-2.0
"""What Ceph's manager does in the background (its module rbd_support).

Each command is given by a process of its own, see :mod:`.mgr_command`; it
takes about a tenth of a second.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import errors, mgr_command
from volume_rbd.ceph.interface import TaskInfo

#: How long the manager may be silent.
TIMEOUT_S = 5
# And its process, which has to start and to connect first.
_PROCESS_TIMEOUT_S = 30


class ManagerTasks:
    """A :class:`~volume_rbd.ceph.interface.Tasks`.

    :param connection: the arguments of ``rados.Rados``.
    """

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = {**connection, 'conf': {
            **connection['conf'], 'rados_mon_op_timeout': str(TIMEOUT_S),
            'client_mount_timeout': str(TIMEOUT_S)}}
        self._who: str = connection['name']

    def flatten(self, pool: str, name: str) -> TaskInfo:
        return _read(self._command(
            'rbd task add flatten', model.ImageSpec(pool, name),
            image_spec=f'{pool}/{name}'))

    def remove_trashed(self, pool: str, image_id: str) -> TaskInfo:
        return _read(self._command(
            'rbd task add trash remove', model.ImageSpec(pool, image_id),
            image_id_spec=f'{pool}/{image_id}'))

    def find(self, task_id: str) -> TaskInfo | None:
        for told in self._command('rbd task list', 'the manager'):
            if told['id'] == task_id:
                return _read(told)
        return None

    def cancel(self, task_id: str) -> None:
        with contextlib.suppress(exception.PoolNotFound):  # it is over
            self._command('rbd task cancel', 'the manager', task_id=task_id)

    def _command(self, prefix: str, on: errors.Subject, **arguments: str
                 ) -> Any:
        what = f'run "{prefix}" on'
        answer = self._ask({'prefix': prefix, 'format': 'json', **arguments},
                           f'Cannot {what} {on}')
        if 'error' in answer:
            raise exception.ClusterUnavailable(
                f'Cannot {what} {on}: {answer["error"]}.')
        if answer['code']:
            raise errors.from_code(answer['code'], what, on, self._who)
        output: str = answer['output']
        return json.loads(output) if output.strip() else None

    def _ask(self, command: Mapping[str, str], failed: str
             ) -> dict[str, Any]:
        request = json.dumps({'rados': self._connection, 'command': command})
        try:
            done = subprocess.run(
                [sys.executable, '-m', mgr_command.__name__], input=request,
                capture_output=True, text=True, check=True,
                timeout=_PROCESS_TIMEOUT_S)
            answer: dict[str, Any] = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise exception.OperationTimeout(
                f'{failed}: no answer within {_PROCESS_TIMEOUT_S} s.'
            ) from None
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise exception.VolumeRBDError(
                f'{failed}: its process ended with '
                f'{type(error).__name__}.') from error
        return answer


def _read(told: dict[str, Any]) -> TaskInfo:
    return TaskInfo(
        id=str(told['id']), is_running=bool(told.get('in_progress')),
        progress=float(told.get('progress') or 0.0),
        problem=str(told.get('retry_message') or ''))
