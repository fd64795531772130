# SPDX-License-Identifier: Apache-2.0
"""The table of errors has a row for everything, and says nothing secret."""

from __future__ import annotations

import inspect
import types

import pytest
import requests.exceptions
import urllib3.exceptions
from glanceclient import exc
from keystoneauth1 import exceptions as ks_exc

from volume_rbd import exception
from volume_rbd.glance import errors


def exceptions_of(module: types.ModuleType) -> list[type[BaseException]]:
    found = {each for _, each in inspect.getmembers(module, inspect.isclass)
             if issubclass(each, BaseException)
             and not issubclass(each, Warning)
             and each.__module__.startswith(module.__name__.split('.')[0])}
    return sorted(found, key=lambda each: each.__name__)


def make(kind: type[BaseException]) -> BaseException:
    """One of *kind*, whatever its constructor wants."""
    error = kind.__new__(kind)
    if isinstance(error, exc.HTTPException):
        error.details = 'details'
    return error


@pytest.mark.parametrize('kind', exceptions_of(exc))
def test_every_error_of_glanceclient_has_a_row(
        kind: type[BaseException]) -> None:
    code = getattr(kind, 'code', None)
    if isinstance(code, int):
        assert code in errors.STATUSES
    else:
        assert kind in errors.TABLE
    assert errors.find_row(make(kind)) is not None


@pytest.mark.parametrize('kind', [
    kind for kind in exceptions_of(ks_exc)
    if kind is not ks_exc.ClientException])
def test_every_error_of_keystoneauth_has_a_row_of_its_own_kind(
        kind: type[BaseException]) -> None:
    row = errors.find_row(make(kind))
    assert row is not None
    assert row is not errors.TABLE[ks_exc.ClientException] or (
        issubclass(kind, ks_exc.ConnectionError))


@pytest.mark.parametrize('kind', [
    *exceptions_of(requests.exceptions),
    *(kind for kind in exceptions_of(urllib3.exceptions)
      # The only one that is no HTTPError; it is about a proxy's URL.
      if kind is not urllib3.exceptions.ProxySchemeUnsupported)])
def test_every_error_of_the_transport_has_a_row(
        kind: type[BaseException]) -> None:
    assert errors.find_row(make(kind)) is not None


def http_error(status: int, body: bytes = b'',
               content_type: str = 'text/plain') -> exc.HTTPException:
    response = requests.Response()
    response.status_code = status
    response._content = body
    response.headers['content-type'] = content_type
    error: exc.HTTPException = exc.from_response(response, body)
    return error


@pytest.mark.parametrize(('status', 'ours', 'is_transient'), [
    (300, exception.ApiNotImplemented, False),
    (400, exception.InvalidInput, False),
    (401, exception.GlanceUnauthorized, False),
    (403, exception.GlanceForbidden, False),
    (404, exception.GlanceImageNotFound, False),
    (405, exception.ApiNotImplemented, False),
    (409, exception.GlanceConflict, False),
    (410, exception.GlanceConflict, False),
    (413, exception.QuotaExceeded, False),
    (415, exception.InvalidInput, False),
    (429, exception.GlanceUnavailable, True),
    (500, exception.GlanceUnavailable, False),
    (501, exception.ApiNotImplemented, False),
    (502, exception.GlanceUnavailable, True),
    (503, exception.GlanceUnavailable, True),
    (504, exception.GlanceUnavailable, True),
    (507, exception.GlanceUnavailable, False),
])
def test_an_answer_becomes_the_error_of_its_status(
        status: int, ours: type[exception.VolumeRBDError],
        is_transient: bool) -> None:
    error = http_error(status, f'{status} Some Word\n\nwhy'.encode())
    assert type(errors.translate(error, 'This')) is ours
    assert errors.is_transient(error) is is_transient


def test_a_missing_api_is_told_from_a_missing_image() -> None:
    error = errors.translate(http_error(404), 'This',
                             missing=exception.ApiNotImplemented)
    assert type(error) is exception.ApiNotImplemented


def test_a_page_becomes_one_line() -> None:
    page = (b'<html>\n <head>\n  <title>403 Forbidden</title>\n </head>\n'
            b' <body>\n  <h1>403 Forbidden</h1>\n'
            b'  It&#x27;s not allowed.<br /><br />\n\n </body>\n</html>')
    error = errors.translate(http_error(403, page, 'text/html'), 'This')
    assert error.message == "This failed: 403 Forbidden: It's not allowed."


def test_a_schema_is_not_recited() -> None:
    error = errors.translate(http_error(
        400, b"'x' is not one of ['raw']\n\nFailed validating 'enum' in "
             b"schema: {...}"), 'This')
    assert error.message == "This failed: 'x' is not one of ['raw']."


def test_advice_of_the_call_goes_before_the_tables() -> None:
    error = errors.translate(http_error(413), 'This', remedies={
        exception.QuotaExceeded: 'Ask Anna.'})
    assert error.remedy == 'Ask Anna.'


@pytest.mark.parametrize('text', [
    'at http://admin:s3cret@keystone/v3',
    '{"auth": {"password": "s3cret"}}',
    'token gAAAAABs3cret0123456789012345',
])
def test_secrets_are_left_out(text: str) -> None:
    error = errors.translate(ks_exc.DiscoveryFailure(text), 'This')
    assert 's3cret' not in str(error)


def test_a_header_that_http_forbids_is_not_quoted() -> None:
    inner = requests.exceptions.InvalidHeader("in header value: 's3cret\\n'")
    outer = ks_exc.UnknownConnectionError(f'Unexpected: {inner}', inner)
    for error in (inner, outer):
        assert 's3cret' not in str(errors.translate(error, 'This'))
        assert errors.holds_header(error)


def test_long_text_is_cut() -> None:
    error = errors.translate(exc.CommunicationError('x ' * 1000), 'This')
    assert len(str(error)) < 600


@pytest.mark.parametrize(('kind', 'ours'), [
    (ks_exc.Unauthorized, exception.GlanceUnauthorized),
    (ks_exc.NotFound, exception.GlanceUnauthorized),
    (ks_exc.BadRequest, exception.ConfigurationError),
    (ks_exc.EmptyCatalog, exception.ConfigurationError),
    (ks_exc.EndpointNotFound, exception.ConfigurationError),
    (ks_exc.DiscoveryFailure, exception.GlanceUnavailable),
    (ks_exc.ConnectFailure, exception.GlanceUnavailable),
    (ks_exc.InternalServerError, exception.GlanceUnavailable),
])
def test_keystones_errors_are_told_apart(
        kind: type[Exception], ours: type[exception.VolumeRBDError]) -> None:
    assert type(errors.translate(kind('text'), 'This')) is ours
