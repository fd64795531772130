# SPDX-License-Identifier: Apache-2.0
"""Cinder in the sandbox, with Cinder's own driver."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from tests.e2e.cinder import CinderAPI
from tests.functional.api import GlanceAPI
from volume_rbd.sandbox import Sandbox


@pytest.mark.usefixtures('etc_ceph')
def test_the_stock_driver_makes_a_volume_an_image_and_a_volume_again(
        member: CinderAPI, glance: GlanceAPI) -> None:
    volume = member.create('stock')
    snapshot = member.create_snapshot(volume)
    image = member.upload(volume)
    member.wait_for_status(volume, 'available')
    glance.wait_for_status(image, 'active')
    again = member.create('stock', imageRef=image)
    assert member.show(again).bootable == 'true'

    member.delete(again)
    member.delete_snapshot(snapshot)
    member.delete(volume)
    glance.delete(image)


def test_an_attached_volume_names_the_monitor_and_no_key(
        member: CinderAPI, sandbox: Sandbox) -> None:
    volume = member.create('stock')
    with member.attached(volume) as connection:
        assert connection['driver_volume_type'] == 'rbd'
        assert connection['name'] == f'volumes-stock/volume-{volume}'
        assert not connection.get('keyring')
    member.delete(volume)


@pytest.mark.parametrize('kind', ['encrypted', 'multiattach'])
def test_special_types_work_with_the_stock_driver(
        kind: str, member: CinderAPI) -> None:
    volume = member.create(f'stock-{kind}')
    record = member.show(volume)
    assert {'encrypted': record.encrypted,
            'multiattach': record.multiattach}[kind] is True
    member.delete(volume)


def test_a_group_is_made_and_removed(member: CinderAPI) -> None:
    group = member.create_group(['stock'])
    member.delete_group(group)


@pytest.mark.parametrize('process', ['rabbitmq', 'mariadb'])
def test_cinder_gets_over_a_restart(
        process: str, member: CinderAPI, sandbox: Sandbox) -> None:
    volume = member.create('stock')
    sandbox.stop_process(process)
    sandbox.start_process(process)
    member.create_snapshot(volume)
    member.delete_snapshot(*(
        row.id for row in member.client.volume_snapshots.list(
            search_opts={'volume_id': volume})))
    member.delete(volume)


def test_a_killed_volume_service_leaves_no_child(
        member: CinderAPI, sandbox: Sandbox) -> None:
    assert _find_volume_services(sandbox.folder)
    sandbox.signal_process('cinder-volume', 9)
    assert _find_volume_services(sandbox.folder) == []
    sandbox.start_process('cinder-volume')
    member.delete(member.create('stock'))


def test_a_backend_is_reconfigured_and_comes_back(
        member: CinderAPI, sandbox: Sandbox) -> None:
    before = {p.name: p.pid for p in sandbox.status().processes}
    sandbox.configure_cinder({'stock': {'rbd_pool': 'volumes-off'}})
    try:
        volume = member.create('stock')
        with member.attached(volume) as connection:
            assert connection['name'] == f'volumes-off/volume-{volume}'
        member.delete(volume)
        after = {p.name: p.pid for p in sandbox.status().processes}
        assert {name for name in after if after[name] != before[name]} == {
            'cinder-volume'}
    finally:
        sandbox.configure_cinder({})


def _find_volume_services(folder: Path) -> list[int]:
    """Pids of cinder-volume and its children that work in the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if ('cinder-volume' in ' '.join(process.cmdline())
                    and Path(process.cwd()).is_relative_to(folder)):
                found.append(process.pid)
    return found
