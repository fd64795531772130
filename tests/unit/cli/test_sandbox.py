# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd sandbox configure``, without a sandbox."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import pytest

from tests.unit.cli.conftest import Run
from volume_rbd.cli import sandbox as commands
from volume_rbd.sandbox import Sandbox


def test_settings_are_ordered_by_their_section() -> None:
    assert commands.parse_settings([
        'stock.volume_driver=volume_rbd.cinder.RBDDriver',
        'DEFAULT.enabled_backends = stock,on',
        'stock.rbd_max_clone_depth=1']) == {
            'stock': {'volume_driver': 'volume_rbd.cinder.RBDDriver',
                      'rbd_max_clone_depth': '1'},
            'DEFAULT': {'enabled_backends': 'stock,on'}}


def test_a_setting_may_have_an_equals_sign_or_nothing_as_its_value() -> None:
    assert commands.parse_settings(['a.b=c=d', 'a.e=']) == {
        'a': {'b': 'c=d', 'e': ''}}


def test_without_a_value_an_option_is_taken_out() -> None:
    assert commands.parse_settings(['stock.rbd_secret_uuid']) == {
        'stock': {'rbd_secret_uuid': None}}


@pytest.mark.parametrize('word', ['stock', 'stock=1', '.option=1',
                                  'stock.=1', 'a.b=1\nvolume_driver=x'])
def test_what_is_no_setting_is_refused(run: Run, word: str,
                                       tmp_path: pathlib.Path) -> None:
    ended = run('sandbox', 'configure', '--folder', str(tmp_path), 'cinder',
                word)
    assert ended.code == 2
    assert 'is no setting. Write SECTION.OPTION=VALUE' in ended.err
    assert ended.err.count('\n') == 1


@pytest.mark.parametrize('service', ['cinder', 'glance'])
def test_the_service_is_run_with_the_settings(
        run: Run, service: str, tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def configure(self: Sandbox, overrides: Mapping[str, object]) -> None:
        asked.append((self.name, overrides))

    monkeypatch.setattr(Sandbox, f'configure_{service}', configure)
    where = ('--folder', str(tmp_path), '--name', 'trial', service)
    assert run('sandbox', 'configure', *where, 'a.b=1').code == 0
    assert run('sandbox', 'configure', *where).code == 0
    assert asked == [('trial', {'a': {'b': '1'}}), ('trial', {})]


def test_a_sandbox_that_is_not_there_is_said(
        run: Run, tmp_path: pathlib.Path) -> None:
    ended = run('sandbox', 'configure', '--folder', str(tmp_path), 'cinder')
    assert ended.code == 11
    assert "There is no sandbox 'default'." in ended.err
