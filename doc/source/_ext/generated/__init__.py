# SPDX-License-Identifier: Apache-2.0
"""Directives whose text comes from the code, so that it cannot go stale.

``decision-table``, ``reasons-by-trying``
    What plan.py decides, found out by asking it.
``reason``, ``exit-code``
    One reason code or exit code with its sentence; the body says what to do.
    The build fails while one of the code's is not described.
``command-reference``, ``exit-codes``, ``global-options``
    From the parsers of the command line.
``auth-caps``
    The caps the sandbox runs with, as ``ceph auth caps`` commands.
``bench-figures``
    The committed figures, if there are any.
``option-table``
    Every option beside that of Cinder.
``notes``
    reno's notes; also where there is no git to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sphinx.application import Sphinx

from generated import (
    commands,
    decisions,
    described,
    figures,
    notes,
    options,
)


def setup(app: Sphinx) -> Mapping[str, Any]:
    for module in (commands, decisions, described, figures, notes, options):
        module.register(app)
    return {'parallel_read_safe': False, 'version': '1'}
