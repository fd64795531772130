# SPDX-License-Identifier: Apache-2.0
"""Unit tests need no daemon, and no time."""

from __future__ import annotations

import hypothesis

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile(
    'unit', deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile('unit')
