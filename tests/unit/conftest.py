# SPDX-License-Identifier: Apache-2.0
"""Unit tests need no daemon, and no time."""

from __future__ import annotations

import hypothesis
import pytest

from volume_rbd.driver import debris
from volume_rbd.flows import sending

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile(
    'unit', deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile('unit')


@pytest.fixture(autouse=True)
def glance_begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in memory needs no time to notice a broken transfer."""
    monkeypatch.setattr(sending, '_BEGUN_AFTER_S', 0)


@pytest.fixture(autouse=True)
def nobody_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a volume open in memory keeps it so."""
    monkeypatch.setattr(debris, 'PATIENCE_S', 0.02)
