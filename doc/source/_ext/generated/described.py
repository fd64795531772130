# SPDX-License-Identifier: Apache-2.0
"""Codes of the program that a page describes one by one."""

from __future__ import annotations

import re
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from volume_rbd import plan
from volume_rbd.cli import main

LOG = logging.getLogger(__name__)

_EXIT_CODE = re.compile(r'^ +(\d+)  (.+)$', re.MULTILINE)


def exit_codes() -> dict[str, str]:
    """What ``volume-rbd --help`` says of them."""
    return dict(_EXIT_CODE.findall(main.EXIT_CODES))


def reasons() -> dict[str, str]:
    return {reason.value: plan.SENTENCES[reason] for reason in plan.Reason}


class Described(SphinxDirective):
    """A code, what the program says with it, and below what to do."""

    required_arguments = 1
    has_content = True
    kind: ClassVar[str]

    def known(self) -> dict[str, str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(plan.__file__)
        self.env.note_dependency(main.__file__)
        code = self.arguments[0]
        sentence = self.known().get(code)
        if sentence is None:
            raise self.error(f'There is no {self.kind} {code}.')
        _described(self.env).setdefault(self.kind, set()).add(code)
        label = f'{self.kind}-{code}'
        target = nodes.target('', '', ids=[nodes.make_id(label)])
        self.env.domains.standard_domain.note_hyperlink_target(
            label, self.env.current_document.docname, nodes.make_id(label),
            code)
        term = nodes.term('', '', nodes.literal(text=code))
        body = nodes.definition()
        body += nodes.paragraph('', '', nodes.emphasis(text=sentence))
        body += self.parse_content_to_nodes()
        item = nodes.definition_list_item('', term, body)
        return [target, nodes.definition_list('', item)]


class Reason(Described):
    kind = 'reason'

    def known(self) -> dict[str, str]:
        return reasons()


class ExitCode(Described):
    kind = 'exit-code'

    def known(self) -> dict[str, str]:
        return exit_codes()


def _described(env: BuildEnvironment) -> dict[str, set[str]]:
    if not hasattr(env, 'volume_rbd_described'):
        env.volume_rbd_described = {}  # type: ignore[attr-defined]
    found: dict[str, set[str]] = env.volume_rbd_described
    return found


def _check(app: Sphinx, env: BuildEnvironment) -> None:
    described = _described(env)
    for kind, known in (('reason', reasons()), ('exit-code', exit_codes())):
        missing = set(known) - described.get(kind, set())
        if missing:
            LOG.warning('No page describes the %s: %s', kind,
                        ', '.join(sorted(missing)))


def register(app: Sphinx) -> None:
    app.add_directive('reason', Reason)
    app.add_directive('exit-code', ExitCode)
    app.connect('env-check-consistency', _check)
