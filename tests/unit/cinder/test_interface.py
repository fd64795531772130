# SPDX-License-Identifier: Apache-2.0
"""The facade has every method that Cinder calls, as Cinder calls it."""

from __future__ import annotations

import inspect

import pytest
from cinder import interface
from cinder.interface import (
    volume_driver,
    volume_group_driver,
    volume_manageable_driver,
    volume_snapshot_revert,
    volume_snapshotmanagement_driver,
)
from cinder.volume import driver as cinder_driver
from cinder.volume.drivers import rbd

from volume_rbd.cinder import RBDDriver

INTERFACES = (
    volume_driver.VolumeDriverCore,
    volume_manageable_driver.VolumeListManageableDriver,
    volume_snapshotmanagement_driver.VolumeSnapshotManagementDriver,
    volume_snapshot_revert.VolumeSnapshotRevertDriver,
    volume_group_driver.VolumeGroupDriver,
)


def _methods(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith('_')]


def _accepts(ours: inspect.Signature, theirs: inspect.Signature) -> bool:
    """Whether a call that fits *theirs* fits *ours*, by position and by
    name."""
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD
                    for parameter in ours.parameters.values())
    mine = [parameter for parameter in ours.parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    wanted = [parameter for parameter in theirs.parameters.values()
              if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    for place, parameter in enumerate(wanted):
        if place >= len(mine):
            if takes_any:
                continue
            return False
        if mine[place].name != parameter.name:
            return False
        if (parameter.default is not parameter.empty
                and mine[place].default is mine[place].empty):
            return False
    return all(parameter.default is not parameter.empty
               for parameter in mine[len(wanted):])


@pytest.mark.parametrize(('kind', 'name'), [
    (kind, name) for kind in INTERFACES for name in _methods(kind)
    if inspect.isfunction(getattr(RBDDriver, name))])
def test_each_method_takes_what_the_interface_says(kind: type, name: str
                                                   ) -> None:
    theirs = inspect.signature(getattr(kind, name))
    ours = inspect.signature(getattr(RBDDriver, name))
    assert _accepts(ours, theirs), f'{name}{ours} for {name}{theirs}'


@pytest.mark.parametrize('name', [
    name for name in vars(rbd.RBDDriver)
    if name in _methods(cinder_driver.VolumeDriver)])
def test_what_the_stock_driver_does_itself_is_not_left_to_the_base(name: str
                                                                   ) -> None:
    own = [kind for kind in RBDDriver.__mro__
           if kind.__module__.startswith('volume_rbd.')]
    assert any(name in vars(kind) for kind in own)


def test_nothing_abstract_is_left() -> None:
    assert not getattr(RBDDriver, '__abstractmethods__', None)


def test_cinder_knows_it_as_a_volume_driver() -> None:
    assert RBDDriver in interface._volume_register


def test_it_says_what_cinder_asks_of_a_class() -> None:
    assert RBDDriver.SUPPORTS_ACTIVE_ACTIVE is True
    assert RBDDriver.VERSION
    assert RBDDriver.CI_WIKI_NAME
    assert {'rbd_pool', 'enable_clone_optimization'} <= {
        option.name for option in RBDDriver.get_driver_options()}
