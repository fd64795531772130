# SPDX-License-Identifier: Apache-2.0
"""Release notes by reno; and where reno, which asks git, finds none, as in an
unpacked archive, straight from the files."""

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


def _titles(found: list[nodes.Node]) -> Iterator[nodes.title]:
    for node in found:
        yield from node.findall(nodes.title)


class Notes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # new notes, new commits
        found: list[nodes.Node] = []
        if _has_git():
            directive = sphinxext.ReleaseNotesDirective(
                self.name, [], {'reporoot': str(_ROOT)}, self.content,
                self.lineno, self.content_offset, self.block_text,
                self.state, self.state_machine)
            found = list(directive.run())
            for title in _titles(found):
                # What reno calls a history without any tag.
                if title.astext() == '0.0.0':
                    title[:] = [nodes.Text('Not released yet')]
        # Empty, too, before the first note is committed.
        return found or self.parse_text_to_nodes('\n'.join(_from_files()),
                                        allow_section_headings=True)


def register(app: Sphinx) -> None:
    app.add_directive('notes', Notes)
