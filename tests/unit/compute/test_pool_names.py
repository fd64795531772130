# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from volume_rbd import exception
from volume_rbd.compute.pools import names

UUID = '0f0e0d0c-0b0a-4908-8706-050403020100'


@pytest.mark.parametrize('name', [
    'disk', 'disk.local', 'disk.eph0', 'disk.config', 'kernel', 'a-b'])
def test_a_name_is_split_as_it_was_joined(name: str) -> None:
    assert names.split(names.join(UUID, name)) == (UUID, name)


@pytest.mark.parametrize(('instance', 'name'), [
    ('', 'disk'), ('x', 'disk'), (UUID.upper(), 'disk'),
    (UUID.replace('-', ''), 'disk'), ('..', 'disk'), (UUID, ''),
    (UUID, '..'), (UUID, '.disk'), (UUID, 'a/b'), (UUID, 'a_b'),
    (UUID, 'a\n'), (UUID, 'Disk'), (UUID, 'a' * 65)])
def test_what_names_no_disk_is_refused(instance: str, name: str) -> None:
    with pytest.raises(exception.InvalidName):
        names.join(instance, name)


@pytest.mark.parametrize('volume', [
    'disk', f'{UUID}', f'{UUID}_', f'{UUID}_a/b', f'.{UUID}_disk.partial',
    f'{UUID}_disk_x', f'x{UUID}_disk'])
def test_what_is_no_disk_of_a_guest(volume: str) -> None:
    assert names.split(volume) is None
