# SPDX-License-Identifier: Apache-2.0
"""A sandbox as the tests have them: quick, and gone with them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from tests import watchdog
from volume_rbd.sandbox import Options, Sandbox


@contextlib.contextmanager
def opened(**options: Any) -> Iterator[Sandbox]:
    """:param options: more of them."""
    with tempfile.TemporaryDirectory(prefix='volume-rbd-tests-') as base, \
            Sandbox('tests', base, options=Options(
                quick_monitor=True, secure_hash=False, **options)
                ) as running, watchdog.guard(running):
        yield running
