# SPDX-License-Identifier: Apache-2.0
"""Files that hold secrets and configuration, written whole or not at all."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

Sections = Mapping[str, Mapping[str, object]]
Overrides = Mapping[str, Mapping[str, object | None]]


def write_private(path: Path, content: str) -> None:
    """Replace ``path`` atomically with ``content``, readable by us only."""
    unique = f'{os.getpid()}-{threading.get_ident()}'
    temporary = path.with_name(f'.{path.name}.{unique}.tmp')
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600
    )
    with os.fdopen(handle, 'w', encoding='utf-8') as stream:
        stream.write(content)
    temporary.replace(path)


def make_private_folders(folders: Iterable[Path]) -> None:
    """Make folders nobody else can enter; existing ones are left alone."""
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def render_ini(sections: Sections) -> str:
    """Sections as an ini file that oslo.config, Ceph and MariaDB read."""
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f'[{section}]')
        lines += [f'{k} = {_render_value(v)}' for k, v in values.items()]
        lines.append('')
    return '\n'.join(lines)


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    text = str(value)
    if '\n' in text:
        raise ValueError('an ini value must fit on one line')
    return text


def apply_overrides(sections: Sections, overrides: Overrides
                    ) -> dict[str, dict[str, object]]:
    """Sections with ``overrides`` laid over them.

    A value of None removes the option; an unknown section is added.
    """
    result = {name: dict(values) for name, values in sections.items()}
    for name, values in overrides.items():
        section = result.setdefault(name, {})
        for key, value in values.items():
            if value is None:
                section.pop(key, None)
            else:
                section[key] = value
    return result


def read_tail(path: Path, lines: int = 15, size_bytes: int = 32768) -> str:
    """The last lines of a log, or an empty text if there is none."""
    try:
        with path.open('rb') as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - size_bytes))
            text = stream.read().decode('utf-8', 'replace')
    except OSError:
        return ''
    return '\n'.join(text.splitlines()[-lines:])


def find_cause(path: Path) -> str:
    """The last exception's own line in a log of tracebacks, or ''.

    Not gunicorn's: it only says that a worker did not start.
    """
    lines = read_tail(path, lines=400).splitlines()
    for before, line in reversed(list(pairwise(lines))):
        if before.startswith('    ') and re.match(
                r'(?!gunicorn\.)[A-Za-z_][\w.]*: ', line):
            return line
    return ''
