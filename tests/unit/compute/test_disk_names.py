# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from volume_rbd import exception
from volume_rbd.compute import disks

UUID = '0f0e0d0c-0b0a-4908-8706-05040302010f'


@pytest.mark.parametrize('name', [
    'disk', 'disk.local', 'disk.eph0', 'disk.config', 'kernel', 'a_b'])
def test_a_name_is_split_as_it_was_joined(name: str) -> None:
    assert disks.split_name(disks.get_name(UUID, name)) == (UUID, name)


@pytest.mark.parametrize(('instance', 'name'), [
    ('', 'disk'), ('x', 'disk'), ('..', 'disk'), (f'../{UUID}', 'disk'),
    (UUID, ''), (UUID, '../disk'), (UUID, 'a/b'), (UUID, 'a\n'),
    (UUID, 'a@b'), (UUID, 'a' * 250)])
def test_what_names_no_disk_is_refused(instance: str, name: str) -> None:
    with pytest.raises(exception.InvalidName):
        disks.get_name(instance, name)


@pytest.mark.parametrize('volume', [
    'disk', UUID, f'{UUID}_', f'{UUID}_a/b', f'.{UUID}_disk.partial',
    f'x{UUID}_disk', f'{UUID.upper()}_disk', f'{UUID.replace("-", "")}_a'])
def test_what_is_no_disk_of_a_guest(volume: str) -> None:
    assert disks.split_name(volume) is None
