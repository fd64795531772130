# SPDX-License-Identifier: Apache-2.0
"""What is written in a section of the configuration files, as it stands there.

oslo.config tells the options that a program has registered, and nothing of
those that nobody knows: a mistyped one is as if it were not there.
"""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Collection, Iterator, Mapping

from oslo_config import cfg

# How alike two names are before one is taken for the other mistyped. Of all
# that Cinder itself reads of a backend's section, none comes nearer than 0.83
# to one of ours.
_ALIKE = 0.88


@dataclasses.dataclass(frozen=True)
class Unknown:
    """:param meant: the option that was probably meant, if one is near."""

    option: str
    meant: str | None

    def __str__(self) -> str:
        if self.meant is None:
            return repr(self.option)
        return f'{self.option!r} (did you mean {self.meant!r}?)'


def read(conf: cfg.ConfigOpts, name: str) -> dict[str, str]:
    """The options of section *name* as text; later files win.

    :param conf: one that has read its files, Cinder's as well as ours.
    """
    found: dict[str, str] = {}
    for path in _files(conf):
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(path, sections).parse()
        for section, options in sections.items():
            # As oslo.config compares them.
            if section.lower() == name.lower():
                found |= {option: values[-1]
                          for option, values in options.items()}
    return found


def _files(conf: cfg.ConfigOpts) -> Iterator[str]:
    yield from conf.config_file or []
    for folder in conf.config_dir or []:
        yield from sorted(map(str, pathlib.Path(folder).glob('*.conf')))


def find_unknown(written: Mapping[str, str], known: Collection[str],
                 prefix: str) -> list[Unknown]:
    """What of *written* is surely a mistake: it begins with *prefix*, or is
    nearly a *known* one. All else is left to those whose it is.
    """
    found = []
    for option in sorted(written.keys() - set(known)):
        near = difflib.get_close_matches(option, known, 1, _ALIKE)
        if not near and option.startswith(prefix):
            near = difflib.get_close_matches(option, known, 1)
            found.append(Unknown(option, next(iter(near), None)))
        elif near:
            found.append(Unknown(option, near[0]))
    return found
