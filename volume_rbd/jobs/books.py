# SPDX-License-Identifier: Apache-2.0
"""Where flow_connection keeps the flows of jobs: taskflow's logbooks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from taskflow import exceptions as taskflow_exceptions
from taskflow.persistence import backends, models

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows.engine import Kept
from volume_rbd.jobs.job import is_id
from volume_rbd.persistence import DEFAULT_NAMESPACE, RadosBackend
from volume_rbd.persistence.lazy import LazyRecords

MEMORY = 'memory'


@contextlib.contextmanager
def opened(config: opts.BackendConfig, cluster: Cluster) -> Iterator[Any]:
    """taskflow's backend of the flow_connection.

    :param cluster: the job's own connection: what is kept in the same pool
        is written by it, so that nothing is once it has been shut out.
    :raises ConfigurationError: taskflow knows no such connection.
    """
    connection = config.flow_connection
    scheme, _, path = connection.partition('://')
    conf = {'connection': connection}
    if scheme in ('dir', 'file'):
        conf['path'] = path  # taskflow does not take it from the URL
    try:
        if scheme == 'rados' and not path:
            backend: Any = RadosBackend({}, records=LazyRecords(
                cluster.records(config.pool, DEFAULT_NAMESPACE)))
        else:
            backend = backends.fetch(conf)
    except ModuleNotFoundError as error:
        raise exception.ConfigurationError(
            f'flow_connection ({scheme}) needs the Python module '
            f'{error.name}, which is not installed.',
            remedy='Install it, or name one that is there, as in '
                   'mysql+pymysql://… or postgresql+psycopg2://…') from error
    except Exception as error:
        # Not the connection itself: it may hold a password.
        raise exception.ConfigurationError(
            f'flow_connection ({scheme}) cannot be opened: '
            f'{type(error).__name__}.',
            remedy='Use memory, rados://, dir:///PATH, mysql+pymysql://… or '
                   'postgresql+psycopg2://…') from error
    with contextlib.closing(backend):
        yield backend


def begin(backend: Any, job_id: str, operation: str) -> Kept:
    """A new logbook.

    :raises Unavailable: nothing was begun.
    :raises InvalidInput: that is no id of a job.
    """
    if not is_id(job_id):
        raise exception.InvalidInput(f'{job_id!r} is no id of a job.')
    book = models.LogBook(f'volume_rbd.{job_id}', uuid=job_id)
    detail = models.FlowDetail(operation, uuid=job_id)
    book.add(detail)
    with _saying_unavailable('written'), contextlib.closing(
            backend.get_connection()) as records:
        # A database is connected to here, and not by the fetch.
        records.upgrade()
        records.save_logbook(book)
    return Kept(backend, book, detail)


def find(backend: Any, job_id: str) -> Kept | None:
    """The logbook of a job that was begun.

    :raises Unavailable: it cannot be read now.
    """
    if not is_id(job_id):
        return None
    with _saying_unavailable('read'), contextlib.closing(
            backend.get_connection()) as records:
        try:
            book = records.get_logbook(job_id)
        except taskflow_exceptions.NotFound:
            return None
    detail = book.find(job_id)
    return None if detail is None else Kept(backend, book, detail)


def remove(backend: Any, job_id: str) -> None:
    """If there is one. taskflow makes a path of whatever id it is given,
    and removes the folder that it leads to."""
    if not is_id(job_id):
        return
    with _saying_unavailable('removed'), contextlib.closing(
            backend.get_connection()) as records, contextlib.suppress(
                taskflow_exceptions.NotFound):
        records.destroy_logbook(job_id)


@contextlib.contextmanager
def _saying_unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except exception.VolumeRBDError:
        raise
    except Exception as error:
        raise exception.Unavailable(
            f'The record of this operation cannot be {what}: '
            f'{type(error).__name__}.',
            remedy='Check that what flow_connection names is there and may '
                   'be written.') from error
