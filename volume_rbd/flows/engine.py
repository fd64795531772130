# SPDX-License-Identifier: Apache-2.0
"""Runs a flow to its end and says what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_log import log as logging
from taskflow import engines
from taskflow import exceptions as taskflow_exceptions
from taskflow import flow as taskflow_flow
from taskflow.persistence import backends, models
from taskflow.types import failure

from volume_rbd import exception
from volume_rbd.flows import strategies
from volume_rbd.flows.base import Result, Task, Tools
from volume_rbd.persistence import DEFAULT_NAMESPACE, RadosBackend

LOG = logging.getLogger(__name__)


def run(flow: taskflow_flow.Flow, arguments: Mapping[str, Any], *, job: str,
        tools: Tools) -> Result:
    """Run *flow* with *arguments* (JSON only) and return what it did.

    :param job: the id under which the flow is kept while it runs.
    :param tools: those of the flow; their ``flow_connection`` says where it
        is kept.
    :raises VolumeRBDError: what ended the flow, after everything that it
        had made was undone; its message says so where something stayed.
    """
    started = time.monotonic()
    with _kept(flow, arguments, job, tools) as engine:
        try:
            engine.run()
        except taskflow_exceptions.WrappedFailure as wrapped:
            error = _first_error(wrapped)
            _tell_what_stayed(flow, error)
            raise error from wrapped
        except exception.VolumeRBDError as error:
            _tell_what_stayed(flow, error)
            raise
        values = engine.storage.fetch_all(_of_what_worked)
    return _result(flow.name, job, values, engine.storage,
                   time.monotonic() - started)


@contextlib.contextmanager
def _kept(flow: taskflow_flow.Flow, arguments: Mapping[str, Any], job: str,
          tools: Tools) -> Iterator[Any]:
    """A loaded engine whose records go when it is done."""
    # defer_reverts: a failure under the controller undoes what is outside of
    # it as well; without it the source snapshot would stay.
    options: dict[str, Any] = {'engine': 'serial', 'defer_reverts': True,
                               'store': dict(arguments)}
    if tools.config.flow_connection == 'memory':
        yield engines.load(flow, **options)
        return
    backend = _open_backend(tools)
    book = models.LogBook(f'volume_rbd.{job}')
    detail = models.FlowDetail(flow.name, uuid=job)
    book.add(detail)
    with contextlib.closing(backend), \
            contextlib.closing(_begin_record(backend, book)) as records:
        try:
            yield engines.load(flow, flow_detail=detail, book=book,
                               backend=backend, **options)
        finally:
            records.destroy_logbook(book.uuid)


def _begin_record(backend: Any, book: models.LogBook) -> Any:
    """:returns: the connection to the records.
    :raises Unavailable: nothing was begun."""
    try:
        # A database is connected to here, and not by the fetch.
        records = backend.get_connection()
        records.upgrade()
        records.save_logbook(book)
        return records
    except Exception as error:
        raise exception.Unavailable(
            'The record of this operation cannot be written: '
            f'{type(error).__name__}.',
            remedy='Check that what flow_connection names is there and may '
                   'be written.') from error


def _open_backend(tools: Tools) -> Any:
    """:raises ConfigurationError: taskflow knows no such connection."""
    connection = tools.config.flow_connection
    scheme, _, path = connection.partition('://')
    if scheme == 'rados' and not path:
        return RadosBackend({}, records=tools.cluster.records(
            tools.config.pool, DEFAULT_NAMESPACE))
    conf = {'connection': connection}
    if scheme in ('dir', 'file'):
        conf['path'] = path  # taskflow does not take it from the URL
    try:
        return backends.fetch(conf)
    except Exception as error:
        # Not the connection itself: it may hold a password.
        raise exception.ConfigurationError(
            f'flow_connection ({scheme}) cannot be opened: '
            f'{type(error).__name__}.',
            remedy='Use memory, rados://, dir:///PATH, mysql+pymysql://… or '
                   'postgresql://…') from error


def _of_what_worked(values: list[Any]) -> Any:
    """Of several strategies that provide a value, those that failed provide
    their failure."""
    return next((value for value in values
                 if not isinstance(value, failure.Failure)), None)


def _first_error(wrapped: taskflow_exceptions.WrappedFailure
                 ) -> BaseException:
    errors = [strategies.error_of(item) for item in wrapped]
    ours = [error for error in errors
            if isinstance(error, exception.VolumeRBDError)]
    # The one that is no mere "not this way" says most.
    ours.sort(key=lambda error: isinstance(error, exception.NotThisWay))
    return next(iter(ours), wrapped)


def _tell_what_stayed(flow: taskflow_flow.Flow, error: BaseException
                      ) -> None:
    stayed = [step.what_stayed for step in _tasks(flow) if step.what_stayed]
    if stayed and isinstance(error, exception.VolumeRBDError):
        error.message = (
            f'{error.message.rstrip(".")}. Not everything could be undone '
            f'({"; ".join(stayed)}).')


def _tasks(flow: taskflow_flow.Flow) -> Iterator[Task]:
    for node, _ in flow.iter_nodes():
        if isinstance(node, taskflow_flow.Flow):
            yield from _tasks(node)
        elif isinstance(node, Task):
            yield node


def _result(operation: str, job: str, values: Mapping[str, Any],
            storage: Any, seconds: float) -> Result:
    attempts = _attempts(values, storage)
    choice = attempts[-1]
    LOG.info('%(operation)s by %(strategy)s (%(reason)s) took '
             '%(seconds).2f s', {
                 'operation': operation, 'strategy': choice['strategy'],
                 'reason': choice['reason'], 'seconds': seconds})
    return Result(
        operation=operation, job=job, strategy=choice['strategy'],
        reason=choice['reason'], sentence=choice['sentence'],
        attempts=attempts, seconds=seconds,
        bytes_moved=int(values.get('bytes_moved') or 0),
        # What was found out on the way goes before what was planned.
        size_bytes=int(values.get('volume_size_bytes')
                       or values.get('size_bytes') or 0), values=values)


def _attempts(values: Mapping[str, Any], storage: Any
              ) -> tuple[Mapping[str, str], ...]:
    """What was tried; a flow without a controller has one way, which its
    argument ``choice`` tells."""
    try:
        history = storage.get_retry_history('StrategyController')
    except taskflow_exceptions.NotFound:
        return (values['choice'],)
    return tuple(outcome for outcome, _ in history)
