# SPDX-License-Identifier: Apache-2.0
"""The fakes answer at once, so nobody needs to wait for them."""

from __future__ import annotations

import pytest

from volume_rbd.flows import registration


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, '_POLL_FIRST_S', 0.001)
    monkeypatch.setattr(registration, '_REGISTER_PAUSES_S', (0.001, 0.001))
    monkeypatch.setattr(registration, '_ASK_TASKS_AFTER_S', 0.005)
