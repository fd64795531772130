# SPDX-License-Identifier: Apache-2.0
"""The pages of the seeds name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / 'doc/source/seeds').glob('[0-9]*.rst'))
_NODE = re.compile(r'``(tests/[\w/]+\.py)(?:::(\w+))?')


@pytest.mark.parametrize('page', PAGES, ids=[page.stem for page in PAGES])
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    nodes = _NODE.findall(page.read_text())
    assert nodes
    for path, name in nodes:
        text = (ROOT / path).read_text()
        assert not name or f'\ndef {name}(' in text, f'{path}::{name}'
