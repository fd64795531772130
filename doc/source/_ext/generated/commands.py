# SPDX-License-Identifier: Apache-2.0
"""The command line, from its own parsers."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pathlib
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from generated import decisions, described
from volume_rbd import exception
from volume_rbd.cli import main
from volume_rbd.sandbox import Options, caps

_SORTING = ('--sort-column', '--sort-ascending', '--sort-descending')


# -- commands -----------------------------------------------------------------
def _load(target: str) -> type:
    module, _, name = target.partition(':')
    found: type = getattr(
        importlib.import_module(f'volume_rbd.cli.{module}'), name)
    return found


def _formatting(parser: argparse.ArgumentParser) -> set[int]:
    """The actions that cliff adds to everything that prints."""
    found = set()
    for group in parser._action_groups:
        if (group.title or '').lower().endswith(('formatter', 'formatters')):
            found |= {id(action) for action in group._group_actions}
    found |= {id(action) for action in parser._actions
              if set(action.option_strings) & {'-h', *_SORTING}}
    return found


def _formats(parser: argparse.ArgumentParser, hidden: set[int]) -> list[str]:
    for action in parser._actions:
        if id(action) in hidden and '-f' in action.option_strings:
            return sorted(str(choice) for choice in action.choices or ())
    return []


def _strip(parser: argparse.ArgumentParser, hidden: set[int]) -> None:
    parser._actions = [action for action in parser._actions
                       if id(action) not in hidden]
    parser._mutually_exclusive_groups = [
        group for group in parser._mutually_exclusive_groups
        if not {id(action) for action in group._group_actions} & hidden]


def _usage(parser: argparse.ArgumentParser) -> Iterator[str]:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(
        prog, width=78)
    yield '.. code-block:: text'
    yield ''
    text = parser.format_usage().removeprefix('usage: ')
    for line in text.rstrip().splitlines():
        # The prefix is gone, so the lines below it move left as well.
        yield '   ' + (line.removeprefix(' ' * 7))
    yield ''


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f'``{action.metavar or action.dest}``'
    value = f' {action.metavar}' if action.metavar else ''
    return ', '.join(f'``{option}{value}``'
                     for option in action.option_strings)


def _arguments(parser: argparse.ArgumentParser) -> str:
    rows = [[_name(action), action.help or '']
            for action in parser._actions if action.help]
    if not rows:
        return ''
    return decisions.table(['argument', 'meaning'], '36 64', rows)


def _describe(name: str, target: str) -> Iterator[str]:
    kind = _load(target)
    parser = kind(None, None).get_parser(f'volume-rbd {name}')
    hidden = _formatting(parser)
    formats = _formats(parser, hidden)
    _strip(parser, hidden)
    yield f'.. _cli-{name.replace(" ", "-")}:'
    yield ''
    yield f'volume-rbd {name}'
    yield '~' * len(f'volume-rbd {name}')
    yield ''
    yield inspect.getdoc(kind) or ''
    yield ''
    yield from _usage(parser)
    yield _arguments(parser)
    yield ''
    if formats:
        yield ('Prints one of ' + ', '.join(f'``{form}``' for form in formats)
               + ' (``-f``).')
    yield ''


class CommandReference(SphinxDirective):
    """``.. command-reference:: create upload`` — commands by first word."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for path in pathlib.Path(main.__file__).parent.glob('*.py'):
            self.env.note_dependency(str(path))
        for word in self.arguments[0].split():
            found = [name for name in main.COMMANDS
                     if name.split()[0] == word]
            if not found:
                raise self.error(f'There is no command {word!r}.')
            _shown(self.env).update(found)
            for name in found:
                lines += _describe(name, main.COMMANDS[name])
        return self.parse_text_to_nodes('\n'.join(lines),
                                        allow_section_headings=True)


def _shown(env: object) -> set[str]:
    if not hasattr(env, 'volume_rbd_shown'):
        env.volume_rbd_shown = set()  # type: ignore[attr-defined]
    found: set[str] = env.volume_rbd_shown  # type: ignore[attr-defined]
    return found


def _check(app: Sphinx, env: object) -> None:
    missing = set(main.COMMANDS) - _shown(env)
    if missing:
        described.LOG.warning('No page shows the commands: %s',
                              ', '.join(sorted(missing)))


class GlobalOptions(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        parser = main.App().parser
        rows = [[_name(action), (action.help or '').replace('%%', '%')]
                for action in parser._actions if action.help]
        return self.parse_text_to_nodes(decisions.table(
            ['option', 'meaning'], '36 64', rows))


# -- exit codes ----------------------------------------------------------
def _errors(code: int) -> list[str]:
    kinds = [kind for kind in vars(exception).values()
             if isinstance(kind, type)
             and issubclass(kind, exception.VolumeRBDError)
             and kind.exit_code == code]
    return [f'``{kind.__name__}``' for kind in kinds]


class ExitCodes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(main.__file__)
        self.env.note_dependency(exception.__file__)
        rows = [[f':ref:`{code} <exit-code-{code}>`', sentence,
                 ', '.join(_errors(int(code)))]
                for code, sentence in described.exit_codes().items()]
        return self.parse_text_to_nodes(decisions.table(
            ['code', 'meaning', 'errors (Python)'], '8 42 50', rows))


# -- caps ----------------------------------------------------------
class AuthCaps(SphinxDirective):
    """``.. auth-caps:: client.glance``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(caps.__file__)
        entity = self.arguments[0]
        options = Options()
        wanted = {
            **caps.get_client_caps(options),
            # The sandbox has this one with Cinder only.
            'client.hypervisor': caps.get_hypervisor_caps(
                caps.get_volume_pools(options)),
        }[entity]
        lines = [f'ceph auth caps {entity}']
        lines += [f"  {daemon} '{text}'" for daemon, text in wanted.items()]
        text = ' \\\n'.join(lines)
        block = nodes.literal_block(text, text, language='console')
        return [block]


def register(app: Sphinx) -> None:
    app.add_directive('command-reference', CommandReference)
    app.add_directive('global-options', GlobalOptions)
    app.add_directive('exit-codes', ExitCodes)
    app.add_directive('auth-caps', AuthCaps)
    app.connect('env-check-consistency', _check)
