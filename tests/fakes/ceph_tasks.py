# SPDX-License-Identifier: Apache-2.0
"""The manager of the in-memory cluster: it does one task after another, one
step of the first each time that somebody looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from volume_rbd import exception
from volume_rbd.ceph import interface

if TYPE_CHECKING:
    from tests.fakes.ceph import FakeCluster


@dataclasses.dataclass
class Task:
    """:ivar is_stuck: the manager does not get on with it."""

    info: interface.TaskInfo
    key: tuple[str, str, str]
    act: Callable[[], None]
    is_stuck: bool = False


class FakeTasks:
    """Implements :class:`volume_rbd.ceph.interface.Tasks`."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._server = cluster.server

    def flatten(self, pool: str, name: str) -> interface.TaskInfo:
        self._begin('task_flatten', pool)
        with self._manager.pool(pool).open(name, read_only=True) as image:
            if image.parent is None:
                raise exception.ImageNotFound(f'{name} has no parent.')

        def act() -> None:
            with self._manager.pool(pool).open(name) as opened:
                opened.flatten()
        return self._add(('flatten', pool, name), act)

    def remove_trashed(self, pool: str, image_id: str
                       ) -> interface.TaskInfo:
        self._begin('task_remove', pool)
        if self._manager.pool(pool).find_trashed(image_id) is None:
            raise exception.ImageNotFound(f'{image_id} is not in the trash.')
        return self._add(
            ('trash remove', pool, image_id),
            lambda: self._manager.pool(pool).trash_remove(image_id))

    def find(self, task_id: str) -> interface.TaskInfo | None:
        self._begin('task_list')
        self._get_on()
        return next((task.info for task in self._server.tasks
                     if task.info.id == task_id), None)

    def cancel(self, task_id: str) -> None:
        self._begin('task_cancel')
        self._server.tasks = [task for task in self._server.tasks
                              if task.info.id != task_id]

    @property
    def _manager(self) -> FakeCluster:
        return self._server.cluster('admin')

    def _begin(self, method: str, pool: str | None = None) -> None:
        self._cluster.begin(method)
        if not self._server.has_manager:
            raise exception.OperationTimeout('The manager does not answer.')
        if pool is not None:
            self._cluster.check_caps(pool, 'rw')

    def _add(self, key: tuple[str, str, str], act: Callable[[], None]
             ) -> interface.TaskInfo:
        for task in self._server.tasks:
            if task.key == key:
                return task.info
        info = interface.TaskInfo(str(self._server.next_number()))
        self._server.tasks.append(Task(info, key, act))
        return info

    def _get_on(self) -> None:
        if not self._server.tasks or self._server.tasks[0].is_stuck:
            return
        first = self._server.tasks[0]
        if not first.info.is_running:
            first.info = dataclasses.replace(first.info, is_running=True,
                                             progress=0.5)
            return
        try:
            first.act()
            self._server.tasks.remove(first)
        except exception.VolumeRBDError as error:
            first.info = dataclasses.replace(first.info,
                                             problem=error.message)
