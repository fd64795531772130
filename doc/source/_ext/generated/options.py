# SPDX-License-Identifier: Apache-2.0
"""Every option beside that of Cinder, whose sources are read, not run."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping

from docutils import nodes
from oslo_config import cfg
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from generated import decisions
from volume_rbd import opts

# Where Cinder defines what is in a backend's section or concerns images.
_FILES = ('volume/drivers/rbd.py', 'volume/driver.py', 'volume/manager.py',
          'common/config.py', 'image/glance.py', 'image/image_utils.py',
          'service_auth.py')
#: The default is worked out when Cinder starts.
_COMPUTED = object()


@functools.cache
def stock_defaults() -> Mapping[str, object]:
    """Option to default, of all that Cinder has in those files.

    :raises LookupError: Cinder is not installed, or is not what it was.
    """
    spec = importlib.util.find_spec('cinder')
    if spec is None or spec.origin is None:
        raise LookupError('Cinder is not installed.')
    folder = pathlib.Path(spec.origin).parent
    found = {name: default for path in _FILES
             for name, default in _options((folder / path).read_text())}
    if 'rbd_pool' not in found:
        raise LookupError(f'There are no options in {folder}.')
    return found


def _options(source: str) -> Iterator[tuple[str, object]]:
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr.endswith('Opt') and node.args
                and isinstance(node.args[0], ast.Constant)):
            continue
        given = {word.arg: word.value for word in node.keywords}
        yield str(node.args[0].value), _value(given.get('default'))


def _value(node: ast.expr | None) -> object:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return _COMPUTED


def _text(value: object) -> str:
    if value is None:
        return '–'
    if isinstance(value, list):
        value = ','.join(map(str, value))
    return f'``{value}``' if value != '' else '*empty*'


def _compare(option: cfg.Opt) -> str:
    stock = stock_defaults()
    if option.name not in stock:
        return 'new'
    default = stock[option.name]
    if default is _COMPUTED or default == option.default:
        return 'the same'
    return f'its default is {_text(default)}'


class OptionTable(SphinxDirective):
    """``.. option-table:: backend``, one of the groups of ``list_opts``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(opts.__file__)
        groups = dict(opts.list_opts())
        if self.arguments[0] not in groups:
            raise self.error(f'There is no group {self.arguments[0]!r}.')
        rows = [[f'``{option.name}``', _text(option.default),
                 _compare(option), option.help or '']
                for option in groups[self.arguments[0]]]
        return self.parse_text_to_nodes(decisions.table(
            ['option', 'default', 'in Cinder', 'meaning'], '30 15 13 42',
            [[cell.replace('\n', ' ') for cell in row] for row in rows]))


def register(app: Sphinx) -> None:
    app.add_directive('option-table', OptionTable)
