# SPDX-License-Identifier: Apache-2.0
"""taskflow's Connection: logbooks as records in RADOS.

A logbook is one record, so that it is saved as a whole or not at all: a key
for the book, one for each flow, one for each atom. The record ``index`` says
which books there are and which flow is in which book; it is written before a
book and cleaned after it, so that nothing exists that it does not name.

Concurrency is optimistic. A change is written on the condition that what it
was made from is still there, else it is made anew from what is there now.
What this connection has read or written is remembered, so an engine that is
alone with its flow, as one under a lease is, writes without reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from oslo_serialization import jsonutils
from taskflow import exceptions as taskflow_exceptions
from taskflow.persistence import base, models

from volume_rbd import exception
from volume_rbd.ceph.interface import Records

INDEX = 'index'
_FORMAT = 'format'
_VERSION = '1'
_BOOK = 'book'
# Whoever loses this often meets more than chance.
_MOST_TRIES = 50

Texts = Mapping[str, str]
_MOST_SEEN = 64


class Seen(dict[str, dict[str, str]]):
    """Record -> key -> text, as last seen, of the books last used. Where a
    text is old, the write that expects it fails and it is read again."""

    def __setitem__(self, record: str, texts: dict[str, str]) -> None:
        self.pop(record, None)
        super().__setitem__(record, texts)
        while len(self) > _MOST_SEEN:
            self.pop(next(iter(self)), None)


class Books(base.Connection):  # type: ignore[misc]
    """:param records: of the namespace that holds the books.
    :param seen: what the backend's connections have seen: taskflow opens one
        for every single thing that it saves.
    """

    def __init__(self, backend: base.Backend, records: Records,
                 seen: Seen | None = None) -> None:
        self._backend = backend
        self._records = records
        self._seen = Seen() if seen is None else seen

    @property
    def backend(self) -> base.Backend:
        return self._backend

    def close(self) -> None:
        """What was seen stays with the backend."""

    # -- the whole -----------------------------------------------------------
    def upgrade(self) -> None:
        with _translating('Preparing the records'), contextlib.suppress(
                exception.RecordChanged):
            self._records.create(INDEX, {_FORMAT: _VERSION})
        self.validate()

    def validate(self) -> None:
        with _translating('Reading the index of the records'):
            try:
                found = self._records.read_keys(INDEX, [_FORMAT])
            except exception.RecordNotFound:
                return  # nothing was ever kept here
            version = found.get(_FORMAT, _VERSION)
            if version != _VERSION:
                raise exception.NotSupported(
                    f'The records have format {version!r}, not {_VERSION}.',
                    remedy='A newer release wrote them; use that one.')

    def clear_all(self) -> None:
        for book_uuid in self._book_uuids():
            with contextlib.suppress(taskflow_exceptions.NotFound):
                self.destroy_logbook(book_uuid)

    # -- logbooks ------------------------------------------------------------
    def save_logbook(self, book: models.LogBook) -> models.LogBook:
        record = _record(book.uuid)
        with _translating(f'Saving logbook {book.uuid}'):
            self._records.write(INDEX, {
                _FORMAT: _VERSION, record: book.name,
                **{_flow_key(flow.uuid): book.uuid for flow in book}})
            before, found = self._change(
                record, lambda found: _merged_book(found, book),
                may_create=True)
            saved = _build_book(found, lazy=True)
            for uuid in _flow_uuids(found):
                saved.add(_saved_flow(before, found, uuid, book.find(uuid)))
            saved.updated_at = book.updated_at
            return saved

    def destroy_logbook(self, book_uuid: str) -> None:
        record = _record(book_uuid)
        with _translating(f'Removing logbook {book_uuid}'):
            try:
                found = self._read(record)
                self._records.remove(record)
            except exception.RecordNotFound:
                # Whoever removed it may have been killed before the index.
                found = self._find_indexed(book_uuid)
                if not found:
                    raise
            self._seen.pop(record, None)
            self._records.write(INDEX, {}, [
                record, *(
                    key for key in found if key.startswith('flow.'))])

    def _find_indexed(self, book_uuid: str) -> dict[str, str]:
        """What the index has of a book."""
        return {key: text for key, text in self._records.read(INDEX).items()
                if key == _record(book_uuid) or text == book_uuid}

    def get_logbook(self, book_uuid: str, lazy: bool = False
                    ) -> models.LogBook:
        with _translating(f'Reading logbook {book_uuid}'):
            return _build_book(self._read(_record(book_uuid)), lazy=lazy)

    def get_logbooks(self, lazy: bool = False) -> Iterator[models.LogBook]:
        for book_uuid in self._book_uuids():
            with contextlib.suppress(taskflow_exceptions.NotFound):
                # One that goes meanwhile is left out.
                yield self.get_logbook(book_uuid, lazy=lazy)

    def _book_uuids(self) -> list[str]:
        with _translating('Listing the logbooks'):
            try:
                found = self._records.read(INDEX)
            except exception.RecordNotFound:
                return []
            return [key.removeprefix('book.') for key in found
                    if key.startswith('book.')]

    # -- flows ---------------------------------------------------------------
    def update_flow_details(self, flow_detail: models.FlowDetail
                            ) -> models.FlowDetail:
        uuid = flow_detail.uuid
        with _translating(f'Saving flow {uuid}'):
            before, found = self._change(
                self._record_of_flow(uuid),
                lambda found: _merged_flow(found, flow_detail))
            return _saved_flow(before, found, uuid, flow_detail)

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False
                           ) -> Iterator[models.FlowDetail]:
        with _translating(f'Reading logbook {book_uuid}'):
            found = self._read(_record(book_uuid))
            flows = list(_build_flows(found, lazy=lazy))
        yield from flows

    def get_flow_details(self, fd_uuid: str, lazy: bool = False
                         ) -> models.FlowDetail:
        with _translating(f'Reading flow {fd_uuid}'):
            return _build_flow(self._read(self._record_of_flow(fd_uuid)),
                               fd_uuid, lazy=lazy)

    def _record_of_flow(self, uuid: str) -> str:
        key = _flow_key(uuid)
        for record, texts in list(self._seen.items()):
            if key in texts:
                return record
        try:
            found = self._records.read_keys(INDEX, [key])
        except exception.RecordNotFound:
            found = {}
        if key not in found:
            raise taskflow_exceptions.NotFound(f'There is no flow {uuid}.')
        return _record(found[key])

    # -- atoms ---------------------------------------------------------------
    def update_atom_details(self, atom_detail: models.AtomDetail
                            ) -> models.AtomDetail:
        uuid = atom_detail.uuid
        with _translating(f'Saving atom {uuid}'):
            record, key = self._place_of_atom(uuid)
            _, found = self._change(
                record, lambda found: {key: _merged_atom(
                    found.get(key), atom_detail)})
            return _build_atom(found[key])

    def get_atom_details(self, ad_uuid: str) -> models.AtomDetail:
        with _translating(f'Reading atom {ad_uuid}'):
            record, key = self._place_of_atom(ad_uuid)
            found = self._records.read_keys(record, [key])
            if key not in found:
                raise taskflow_exceptions.NotFound(
                    f'There is no atom {ad_uuid}.')
            return _build_atom(found[key])

    def get_atoms_for_flow(self, fd_uuid: str
                           ) -> Iterator[models.AtomDetail]:
        yield from self.get_flow_details(fd_uuid)

    def _place_of_atom(self, uuid: str) -> tuple[str, str]:
        """:returns: its record, and its key there."""
        for record, texts in list(self._seen.items()):
            if key := _find_atom(texts, uuid):
                return record, key
        # Only who did not load the flow before asks this way.
        for book_uuid in self._book_uuids():
            with contextlib.suppress(exception.RecordNotFound):
                record = _record(book_uuid)
                if key := _find_atom(self._read(record), uuid):
                    return record, key
        raise taskflow_exceptions.NotFound(f'There is no atom {uuid}.')

    # -- reading and writing -------------------------------------------------
    def _read(self, record: str) -> dict[str, str]:
        self._seen.pop(record, None)
        found = self._records.read(record)
        self._seen[record] = found
        return found

    def _change(self, record: str, change: Callable[[Texts], Texts], *,
                may_create: bool = False) -> tuple[Texts, Texts]:
        """Write what *change* makes of what is there.

        :returns: all of the record as it was before, and as it is then.
        """
        for _ in range(_MOST_TRIES):
            found = self._seen.get(record)
            if found is None:
                try:
                    found = self._read(record)
                except exception.RecordNotFound:
                    if not may_create:
                        raise
                    found = {}
            put = {key: text for key, text in change(found).items()
                   if found.get(key) != text}
            try:
                if not found:
                    self._records.create(record, put)
                elif put:
                    # The book's own key too: the record must be there.
                    self._records.write(record, put, expected={
                        key: found.get(key) for key in [_BOOK, *put]})
            except exception.RecordChanged:
                self._seen.pop(record, None)
                continue
            except exception.RecordNotFound:
                self._seen.pop(record, None)
                raise
            self._seen[record] = {**found, **put}
            return found, self._seen[record]
        raise exception.RecordChanged(
            f'The record {record} is changed all the time by others.')


# -- names --------------------------------------------------------------------
def _record(book_uuid: str) -> str:
    """Of a book; the index has it under the same name."""
    return f'book.{book_uuid}'


def _flow_key(flow_uuid: str) -> str:
    return f'flow.{flow_uuid}'


def _atom_key(flow_uuid: str, atom_uuid: str) -> str:
    return f'atom.{flow_uuid}.{atom_uuid}'


def _find_atom(texts: Iterable[str], uuid: str) -> str | None:
    return next((key for key in texts if key.startswith('atom.')
                 and key.endswith(f'.{uuid}')), None)


# -- texts of what is kept ----------------------------------------------------
def _merged_book(found: Texts, book: models.LogBook) -> dict[str, str]:
    if _BOOK in found:
        kept = _load(models.LogBook, found[_BOOK], unmarshal_time=True)
        kept.merge(book)
    else:
        kept = book
    put = {_BOOK: _dump(kept.to_dict(marshal_time=True))}
    for flow in book:
        put |= _merged_flow(found, flow, may_add=True)
    return put


def _merged_flow(found: Texts, flow: models.FlowDetail, *,
                 may_add: bool = False) -> dict[str, str]:
    key = _flow_key(flow.uuid)
    if key in found:
        kept = _load(models.FlowDetail, found[key])
        kept.merge(flow)
    elif may_add:
        kept = flow
    else:
        raise taskflow_exceptions.NotFound(f'There is no flow {flow.uuid}.')
    put = {key: _dump(kept.to_dict())}
    for atom in flow:
        atom_key = _atom_key(flow.uuid, atom.uuid)
        put[atom_key] = _merged_atom(found.get(atom_key), atom, may_add=True)
    return put


def _merged_atom(text: str | None, atom: models.AtomDetail, *,
                 may_add: bool = False) -> str:
    if text is not None:
        kept = _build_atom(text)
        kept.merge(atom)
    elif may_add:
        kept = atom
    else:
        raise taskflow_exceptions.NotFound(f'There is no atom {atom.uuid}.')
    return _dump({'atom': kept.to_dict(),
                  'type': models.atom_detail_type(kept)})


def _saved_flow(before: Texts, found: Texts, uuid: str,
                given: models.FlowDetail | None) -> models.FlowDetail:
    """The flow as it was saved. What is new in it are the very objects that
    were given, not others like them: taskflow's storage goes on with those
    (it is so with taskflow's own backends)."""
    flow = _build_flow(found, uuid)
    if given is None:
        return flow
    if _flow_key(uuid) not in before:
        return given
    for atom in given:
        if _atom_key(uuid, atom.uuid) not in before:
            flow.add(atom)
    return flow


def _build_book(found: Texts, *, lazy: bool = False) -> models.LogBook:
    if _BOOK not in found:
        raise exception.DataCorrupted('The record of a logbook has no book.')
    book = _load(models.LogBook, found[_BOOK], unmarshal_time=True)
    if not lazy:
        updated_at = book.updated_at
        for flow in _build_flows(found):
            book.add(flow)
        book.updated_at = updated_at  # adding is no update
    return book


def _build_flows(found: Texts, *, lazy: bool = False
                 ) -> Iterator[models.FlowDetail]:
    for uuid in _flow_uuids(found):
        yield _build_flow(found, uuid, lazy=lazy)


def _flow_uuids(found: Texts) -> list[str]:
    return [key.removeprefix('flow.') for key in found
            if key.startswith('flow.')]


def _build_flow(found: Texts, uuid: str, *, lazy: bool = False
                ) -> models.FlowDetail:
    text = found.get(_flow_key(uuid))
    if text is None:
        raise taskflow_exceptions.NotFound(f'There is no flow {uuid}.')
    flow = _load(models.FlowDetail, text)
    if not lazy:
        for key, atom in found.items():
            if key.startswith(_atom_key(uuid, '')):
                flow.add(_build_atom(atom))
    return flow


def _build_atom(text: str) -> models.AtomDetail:
    with _reading():
        value = jsonutils.loads(text)
        atom = models.atom_detail_class(value['type']).from_dict(
            value['atom'])
        if isinstance(atom, models.RetryDetail):
            # taskflow puts a failure where what had been tried was.
            atom.results = [
                (tried, failures) for (tried, _), (_, failures) in zip(
                    value['atom']['results'], atom.results, strict=True)]
        return atom


def _load(kind: Any, text: str, **options: Any) -> Any:
    with _reading():
        return kind.from_dict(jsonutils.loads(text), **options)


def _dump(value: object) -> str:
    text: str = jsonutils.dumps(value, sort_keys=True)
    return text


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What anybody may have written there ends in one kind of error."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise exception.DataCorrupted(
            f'A record is no record of taskflow: {error!r}.') from error


@contextlib.contextmanager
def _translating(what: str) -> Iterator[None]:
    """Ours as taskflow's errors, which is what its users catch."""
    try:
        yield
    except exception.RecordNotFound as error:
        raise taskflow_exceptions.NotFound(
            f'{what}: {error.message}') from error
    except exception.VolumeRBDError as error:
        raise taskflow_exceptions.StorageFailure(
            f'{what}: {error.message}', error) from error
