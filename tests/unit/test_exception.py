# SPDX-License-Identifier: Apache-2.0
"""The tree of errors."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from volume_rbd import exception
from volume_rbd.cli import main


def _classes() -> list[type[exception.VolumeRBDError]]:
    return [kind for _, kind in inspect.getmembers(exception, inspect.isclass)
            if issubclass(kind, exception.VolumeRBDError)]


def _drawn_tree() -> dict[str, tuple[str | None, int | None]]:
    """name -> (parent, exit code) of the tree in the module's docstring."""
    drawn: dict[str, tuple[str | None, int | None]] = {
        'VolumeRBDError': (None, 1)}
    above = 'VolumeRBDError'
    for line in (exception.__doc__ or '').splitlines():
        found = re.match(r' +(│?) *[├└]─ (\w+)(?: +(\d+))?', line)
        if not found:
            continue
        deeper, name, code = found.groups()
        is_leaf = bool(deeper) or re.match(r' {9,}[├└]', line)
        drawn[name] = (above if is_leaf else 'VolumeRBDError',
                       int(code) if code else None)
        if not is_leaf:
            above = name
    return drawn


CLASSES = _classes()
DRAWN = _drawn_tree()

every_class = pytest.mark.parametrize(
    'kind', CLASSES, ids=lambda kind: kind.__name__)


def test_the_drawn_tree_names_exactly_the_classes_of_the_module() -> None:
    assert set(DRAWN) == {kind.__name__ for kind in CLASSES}


@every_class
def test_each_class_has_the_parent_that_the_drawing_shows(
        kind: type[exception.VolumeRBDError]) -> None:
    parent = DRAWN[kind.__name__][0]
    drawn = 'Exception' if parent is None else parent
    assert kind.__bases__[0].__name__ == drawn


@every_class
def test_each_class_has_the_exit_code_that_the_drawing_shows(
        kind: type[exception.VolumeRBDError]) -> None:
    parent, code = DRAWN[kind.__name__]
    if code is None:
        assert parent is not None
        code = DRAWN[parent][1]
    if kind is exception.NotThisWay or issubclass(kind, exception.NotThisWay):
        code = 1  # never ends an operation with a code of its own
    assert kind.exit_code == code


@every_class
def test_each_exit_code_is_documented_in_the_help(
        kind: type[exception.VolumeRBDError]) -> None:
    documented = {int(code) for code in re.findall(
        r'^ +(\d+)  \w', main.EXIT_CODES, re.MULTILINE)}
    assert kind.exit_code in documented


def test_families_do_not_share_an_exit_code() -> None:
    families = [kind for kind in CLASSES
                if kind.__bases__ == (exception.VolumeRBDError,)
                and kind is not exception.NotThisWay]
    codes = [kind.exit_code for kind in families]
    assert len(set(codes)) == len(codes)


def test_an_error_says_its_message_and_then_its_remedy() -> None:
    error = exception.InvalidInput('No such thing.', remedy='Look again.')
    assert str(error) == 'No such thing. Look again.'
    assert str(exception.InvalidInput('No such thing.')) == 'No such thing.'


def test_a_default_remedy_gives_way_to_a_given_one() -> None:
    assert 'ceph -s' in str(exception.ClusterUnavailable('It is gone.'))
    error = exception.ClusterUnavailable('It is gone.', remedy='Wait.')
    assert str(error) == 'It is gone. Wait.'


@every_class
@pytest.mark.parametrize('duplicate', [
    copy.copy, copy.deepcopy,
    lambda error: pickle.loads(pickle.dumps(error))],
    ids=['copy', 'deepcopy', 'pickle'])
def test_a_copy_of_an_error_is_the_same_error(
        kind: type[exception.VolumeRBDError], duplicate) -> None:
    error = kind('It broke.', remedy='Mend it.')
    again = duplicate(error)
    assert type(again) is kind
    assert str(again) == 'It broke. Mend it.'
    assert again.args == error.args


def test_a_copy_keeps_the_reason_and_what_was_set_later() -> None:
    refusal = exception.NotCloneable('No.', reason='clone_denied')
    assert pickle.loads(pickle.dumps(refusal)).reason == 'clone_denied'
    lost = exception.GlanceUnavailable('Gone.')
    lost.was_sent = False
    assert copy.copy(lost).was_sent is False


# -- from a record ------------------------------------------------------------

def _persisted(error: exception.VolumeRBDError) -> tuple[str, tuple]:
    """What taskflow keeps of an error: its type's name and its args."""
    kind = type(error)
    return f'{kind.__module__}.{kind.__qualname__}', tuple(error.args)


@every_class
def test_an_error_comes_back_from_its_record(
        kind: type[exception.VolumeRBDError]) -> None:
    error = kind('It broke.', remedy='Mend it.')
    again = exception.from_name(*_persisted(error))
    assert type(again) is kind
    assert str(again) == str(error)


def test_a_refusal_comes_back_with_its_reason() -> None:
    error = exception.RegistrationRefused('No.', reason='location_refused')
    again = exception.from_name(*_persisted(error))
    assert isinstance(again, exception.RegistrationRefused)
    assert again.reason == 'location_refused'
    assert again.args == error.args


@pytest.mark.parametrize('name', [
    'subprocess.getoutput', 'os.system', 'builtins.exec', 'exec',
    'builtins.Exception', 'ImageNotFound', '', '.', '...',
    'volume_rbd.exception', 'volume_rbd.exception.',
    'volume_rbd.exception.from_name', 'volume_rbd.exception.annotations',
    'volume_rbd.exception.__builtins__', 'volume_rbd.exception.os.system',
    'volume_rbd.exception.ImageNotFound.mro',
    'volume_rbd.model.VolumeSpec', 'evil.ImageNotFound',
    'volume_rbd.exception.__loader__', 'volume_rbd.exception.Exception',
    ' volume_rbd.exception.ImageNotFound',
])
def test_a_forged_name_in_a_record_builds_nothing(name: str) -> None:
    assert exception.from_name(name, ('touch /tmp/owned', 'x')) is None


@pytest.mark.parametrize('args', [
    (), ('only a message',), (1, None, 3, 4), (['a'], {'b': 1})])
def test_odd_args_in_a_record_still_give_an_error(args: tuple) -> None:
    error = exception.from_name('volume_rbd.exception.NotCloneable', args)
    assert isinstance(error, exception.NotCloneable)
    assert isinstance(error.message, str)
    assert isinstance(error.reason, str)
