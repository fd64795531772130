# SPDX-License-Identifier: Apache-2.0
"""The facade over a cloud in memory, with plain stand-ins for Cinder's rows.

That they look like Cinder's own is proved by tests/e2e, through the real
service.
"""

from __future__ import annotations

import dataclasses
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.world import World
from volume_rbd import model
from volume_rbd.driver import RBDDriver as PlainDriver

with warnings.catch_warnings():
    # Importing Cinder, once, says much about eventlet that is not ours.
    warnings.simplefilter('ignore')
    import cinder.volume.drivers.rbd  # noqa: F401

    from volume_rbd.cinder import RBDDriver


class Configuration:
    """What a backend's section says; unset options have their defaults."""

    config_group = 'ceph'

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def append_config_values(self, options: Any) -> None:
        for option in options:
            self.values.setdefault(option.dest, option.default)

    def safe_get(self, name: str) -> Any:
        return self.values.get(name)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__['values'].get(name)


class LocalProcess:
    """A backend's driver in this very process.

    :ivar callers: for whom a driver was asked.
    """

    def __init__(self, driver: PlainDriver) -> None:
        self._driver = driver
        self.callers: list[model.Caller | None] = []

    def driver(self, caller: model.Caller | None = None) -> PlainDriver:
        self.callers.append(caller)
        return self._driver

    def close(self) -> None:
        pass


@dataclasses.dataclass
class Context:
    auth_token: str | None = 'token'
    user_id: str = 'u'

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Row:
    """Attributes and items, as Cinder's objects have both."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__.get(name, default)


class Volume(Row):
    """:ivar workers: the states in which it was written down as worked at;
    emptied when the work ended."""

    workers: list[str]

    def set_worker(self) -> None:
        self.workers.append(self.status)

    def unset_worker(self) -> None:
        self.workers.clear()


def make_volume(size: int = 1, **values: Any) -> Any:
    volume_id = values.pop('id', None) or str(uuid.uuid4())
    fields = {
        'id': volume_id, 'name': f'volume-{volume_id}', 'size': size,
        '_name_id': None, 'encryption_key_id': None, 'status': 'available',
        'volume_type': Row(extra_specs={}, qos_specs_id=None),
        'provider_location': None, 'obj_context': Context(), 'workers': []}
    return Volume(**(fields | values))


def make_snapshot(volume: Any, **values: Any) -> Any:
    snapshot_id = str(uuid.uuid4())
    fields = {'id': snapshot_id, 'name': f'snapshot-{snapshot_id}',
              'volume_name': volume.name, 'volume': volume}
    return Row(**(fields | values))


def make_type(**extra_specs: str) -> Any:
    return Row(extra_specs=extra_specs, qos_specs_id=None)


@dataclasses.dataclass
class House:
    """A facade, what is under it, and what it asked for."""

    world: World
    facade: Any
    process: LocalProcess
    plain: PlainDriver

    def make(self, **values: Any) -> Any:
        """A volume through the facade."""
        volume = make_volume(**values)
        self.facade.create_volume(volume)
        return volume


@pytest.fixture
def house() -> Iterator[House]:
    world = World()
    facade = RBDDriver(configuration=Configuration(), host='h@ceph#ceph',
                       db=None)
    with world.driver() as plain:
        process = LocalProcess(plain)
        facade.process = process  # type: ignore[assignment]
        facade.config = world.config
        facade.message_api = Messages()
        facade.db = Notes()
        yield House(world, facade, process, plain)


class Messages:
    """Remembers the user messages."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def create(self, context: Any, action: Any, *, resource_uuid: str,
               detail: Any) -> None:
        self.made.append((action, resource_uuid, detail))


class Notes:
    """What is noted of images in Cinder's database."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def volume_glance_metadata_bulk_create(
            self, context: Any, volume_id: str, values: Any) -> None:
        self.made.append(values)
