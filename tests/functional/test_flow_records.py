# SPDX-License-Identifier: Apache-2.0
"""Flows that are kept in a database while they run."""

from __future__ import annotations

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.steps import Steps, cancelling_at
from volume_rbd import exception
from volume_rbd.ceph.interface import Records

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)


def kept(house: House) -> dict[str, dict[str, object]]:
    return {'DEFAULT': {'flow_connection': house.database_url}}


def check_no_job(records: Records) -> None:
    assert records.names() == ['history', 'index', 'open']
    for left in ('index', 'open'):
        assert set(records.read(left)) == {'format'}


@pytest.mark.parametrize('backend', ['optimized', 'ceph'])
def test_in_rados_both_operations_run_and_leave_no_record(
        house: House, backend: str) -> None:
    driver = house.driver(backend, DEFAULT={'flow_connection': 'rados://'})
    records = driver.cluster.records('volumes', 'volume_rbd.jobs')
    volume = house.volume(DATA)
    seen: list[str] = []

    def look() -> None:
        for name in records.names():
            seen.append(repr(records.read(name)))

    image, result = house.upload(
        volume, driver=driver, report=Steps('choosing a strategy', look))
    name, _ = house.create(image, driver=driver)

    everything = ' '.join(seen)
    assert volume in everything
    assert result.job in everything
    house.check_output(everything)
    check_no_job(records)
    assert house.member.digest(image) == DIGEST
    assert house.cluster.digest('volumes', name) == DIGEST


@pytest.mark.parametrize('backend', ['optimized', 'ceph'])
def test_both_operations_run_and_leave_no_record(
        house: House, backend: str) -> None:
    driver = house.driver(backend, **kept(house))
    volume = house.volume(DATA)
    seen: list[set[str]] = []
    report = Steps('choosing a strategy',
                   lambda: seen.append(house._flows()))

    image, _ = house.upload(volume, driver=driver, report=report)
    name, _ = house.create(image, driver=driver)

    assert any('logbooks' in line for line in seen[0]), 'nothing was kept'
    assert house._flows() == set()
    assert house.member.digest(image) == DIGEST
    assert house.cluster.digest('volumes', name) == DIGEST


def test_flows_in_rados_that_fall_back_or_fail_leave_no_record(
        house: House) -> None:
    from tests.functional.test_fallback import only_admin
    in_rados = {'DEFAULT': {'flow_connection': 'rados://'}}
    driver = house.driver(**in_rados, **only_admin(house))
    records = driver.cluster.records('volumes', 'volume_rbd.jobs')
    volume = house.volume(DATA)
    image, result = house.upload(volume, driver=driver)
    assert result.reason == 'location_forbidden'
    assert result.attempts[0]['strategy'] == 'clone'
    assert house.member.digest(image) == DIGEST
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.upload(volume, driver=house.driver(**in_rados),
                     report=cancelling_at('registering the image'))
    check_no_job(records)


def test_flows_that_fall_back_or_fail_leave_no_record(house: House) -> None:
    from tests.functional.test_fallback import only_admin
    driver = house.driver(**kept(house), **only_admin(house))
    volume = house.volume(DATA)
    _, result = house.upload(volume, driver=driver)
    assert result.reason == 'location_forbidden'
    assert house._flows() == set()

    for step in ('cloning the volume', 'registering the image'):
        with house.nothing_changes(), pytest.raises(exception.Cancelled):
            house.upload(volume, driver=house.driver(**kept(house)),
                         report=cancelling_at(step))


def test_no_password_or_token_is_in_a_record(house: House) -> None:
    driver = house.driver(**kept(house))
    volume = house.volume(DATA)
    texts: list[str] = []

    def look() -> None:
        for table in ('logbooks', 'flowdetails', 'atomdetails'):
            texts.append(repr(house._sql(
                'volume_rbd', f'SELECT * FROM {table}')))

    house.upload(volume, driver=driver,
                 report=Steps('registering the image', look))
    everything = ' '.join(texts)
    assert 'upload_to_image' in everything
    house.check_output(everything)


def test_a_database_that_is_away_is_a_clear_error(house: House) -> None:
    volume = house.volume(DATA)
    url = house.database_url
    broken = url.rpartition('@')[0] + '@127.0.0.1:1/volume_rbd'
    with house.nothing_changes():
        done = house.run(
            'upload', volume, '--image-name', 'x',
            overrides={'DEFAULT': {'flow_connection': broken}})
    assert done.returncode in (2, 6), done.stderr
    assert 'flow_connection' in done.stderr
