# SPDX-License-Identifier: Apache-2.0
"""Release notes by reno; also of an unpacked archive, where reno, which asks
git, finds nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import yaml
from docutils import nodes
from dulwich import errors, repo
from reno import config, sphinxext
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_ROOT = pathlib.Path(__file__).parents[4]


def _has_git() -> bool:
    try:
        repo.Repo(str(_ROOT)).close()
    except errors.NotGitRepository:
        return False
    return True


def _from_files() -> Iterator[str]:
    options = config.Config(str(_ROOT)).options
    sections = {options['prelude_section_name']: 'Prelude'}
    sections |= {section.name: section.title
                 for section in options['sections']}
    notes = [yaml.safe_load(path.read_text()) for path in
             sorted((_ROOT / 'releasenotes/notes').glob('*.yaml'))]
    for name, title in sections.items():
        found = [note[name] for note in notes if note.get(name)]
        if not found:
            continue
        yield from (title, '-' * len(title), '')
        for value in found:
            if isinstance(value, str):
                yield from (value, '')
                continue
            for text in value:
                first, *rest = text.rstrip().splitlines()
                yield f'- {first}'
                yield from (f'  {line}' for line in rest)
                yield ''


class Notes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        for path in (_ROOT / 'releasenotes/notes').glob('*.yaml'):
            self.env.note_dependency(str(path))
        if _has_git():
            directive = sphinxext.ReleaseNotesDirective(
                self.name, [], {'reporoot': str(_ROOT)}, self.content,
                self.lineno, self.content_offset, self.block_text,
                self.state, self.state_machine)
            return list(directive.run())
        return self.parse_text_to_nodes('\n'.join(_from_files()),
                                        allow_section_headings=True)


def register(app: Sphinx) -> None:
    app.add_directive('notes', Notes)
