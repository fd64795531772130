# SPDX-License-Identifier: Apache-2.0
"""Foreign errors become ours: one table, and nothing beside it.

What glanceclient, keystoneauth, requests and urllib3 raise is looked up in
:data:`TABLE` by class, base classes last; an answer of Glance with a status
is looked up in :data:`STATUSES`. Each row says which of our errors it is, and
whether the same call may well work a moment later, which is what the retries
ask.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping
from http.client import HTTPException

import requests.exceptions
import urllib3.exceptions
from glanceclient import exc
from keystoneauth1 import exceptions as ks_exc
from oslo_utils import strutils

from volume_rbd import exception

OurError = type[exception.VolumeRBDError]


@dataclasses.dataclass(frozen=True)
class Row:
    """:param is_transient: whether an idempotent call is worth repeating.
    :param is_keystone: Glance was not asked yet.
    """

    ours: OurError
    is_transient: bool = False
    remedy: str = ''
    is_keystone: bool = False


_TLS = Row(exception.GlanceUnavailable, remedy=(
    'Check the certificate and name its authority with OS_CACERT, [glance] '
    'cafile or glance_ca_certificates_file.'))
_LATE = Row(exception.GlanceUnavailable, remedy=(
    'It may be overloaded; glance_request_timeout says how long to wait.'))
_LOST = Row(exception.GlanceUnavailable, is_transient=True)
_BROKEN = Row(exception.GlanceUnavailable)
_WRONG_SETUP = Row(exception.ConfigurationError, remedy=(
    'Check OS_AUTH_URL, OS_REGION_NAME and the other OS_* variables, or the '
    '[glance] section and glance_api_servers.'))
_KEYSTONE_AWAY = Row(
    exception.GlanceUnavailable, is_transient=True, is_keystone=True,
    remedy='Check that Keystone answers, at OS_AUTH_URL and at the auth_url '
           'of [glance] and [service_user].')
_KEYSTONE_BROKEN = dataclasses.replace(_KEYSTONE_AWAY, is_transient=False)
_KEYSTONE_REFUSES = Row(exception.GlanceUnauthorized, remedy=(
    'Keystone does not take the credentials: check the OS_* variables, or '
    'those in [glance] and [service_user].'))
_NOT_OFFERED = Row(exception.ApiNotImplemented)
_QUOTA = Row(exception.QuotaExceeded, remedy=(
    'Delete images, or ask for a larger image quota or store.'))

#: Answers of Glance. 404 depends on what was asked: see :func:`translate`.
STATUSES: Mapping[int, Row] = {
    300: _NOT_OFFERED,
    400: Row(exception.InvalidInput),
    401: Row(exception.GlanceUnauthorized),
    403: Row(exception.GlanceForbidden),
    404: Row(exception.GlanceImageNotFound),
    405: _NOT_OFFERED,
    408: _LOST,
    409: Row(exception.GlanceConflict),
    # Deleted while its data came in, or the store takes nothing any more.
    410: Row(exception.GlanceConflict),
    413: _QUOTA,
    415: Row(exception.InvalidInput),
    416: Row(exception.InvalidInput),
    429: _LOST,
    500: _BROKEN,
    501: _NOT_OFFERED,
    502: _LOST,
    503: _LOST,
    504: _LOST,
}

TABLE: Mapping[type[BaseException], Row] = {
    # glanceclient. The classes with a status are found in STATUSES.
    exc.InvalidEndpoint: _LATE,  # what it makes of a timeout
    exc.CommunicationError: _LOST,  # refused, reset, closed, no route
    exc.BaseException: _BROKEN,
    exc.CommandError: Row(exception.InvalidInput),
    exc.SSLConfigurationError: _TLS,
    exc.SSLCertificateError: _TLS,
    exc.HTTPException: _BROKEN,  # a status glanceclient has no class for
    exc.ClientException: _BROKEN,
    exc.EndpointNotFound: _WRONG_SETUP,
    exc.NoTokenLookupException: _WRONG_SETUP,
    # keystoneauth. Its HTTP errors are Keystone's: Glance's answers are
    # never raised by it.
    ks_exc.ConnectTimeout: _LATE,  # any timeout
    ks_exc.ConnectFailure: _LOST,
    ks_exc.RetriableConnectionFailure: _LOST,
    ks_exc.SSLError: _TLS,
    ks_exc.UnknownConnectionError: _BROKEN,
    ks_exc.ConnectionError: _BROKEN,
    ks_exc.Unauthorized: _KEYSTONE_REFUSES,
    ks_exc.Forbidden: _KEYSTONE_REFUSES,
    # Keystone's word for a token that it does not know, or no more; also
    # that of any web server for a wrong path.
    ks_exc.NotFound: Row(exception.GlanceUnauthorized, remedy=(
        'Check that the token is still valid, and that OS_AUTH_URL is '
        "Keystone's (it mostly ends in /v3).")),
    ks_exc.AuthorizationFailure: _KEYSTONE_REFUSES,
    ks_exc.MissingAuthMethods: _KEYSTONE_REFUSES,
    ks_exc.RequestTimeout: _KEYSTONE_AWAY,
    ks_exc.TooManyRequests: _KEYSTONE_AWAY,
    ks_exc.BadGateway: _KEYSTONE_AWAY,
    ks_exc.ServiceUnavailable: _KEYSTONE_AWAY,
    ks_exc.GatewayTimeout: _KEYSTONE_AWAY,
    ks_exc.HttpServerError: _KEYSTONE_BROKEN,
    ks_exc.HTTPClientError: _WRONG_SETUP,
    ks_exc.HttpError: _KEYSTONE_BROKEN,
    ks_exc.InvalidResponse: _KEYSTONE_BROKEN,
    ks_exc.DiscoveryFailure: _KEYSTONE_BROKEN,
    ks_exc.CatalogException: _WRONG_SETUP,
    ks_exc.AuthPluginException: _WRONG_SETUP,
    ks_exc.ServiceProviderNotFound: _WRONG_SETUP,
    ks_exc.ImpliedVersionMismatch: _WRONG_SETUP,
    ks_exc.ClientException: _BROKEN,
    # requests and urllib3: while a body is read, nobody wraps them.
    requests.exceptions.Timeout: _LATE,
    requests.exceptions.SSLError: _TLS,
    requests.exceptions.ConnectionError: _LOST,
    requests.exceptions.ChunkedEncodingError: _LOST,
    requests.exceptions.InvalidURL: _WRONG_SETUP,
    requests.exceptions.MissingSchema: _WRONG_SETUP,
    requests.exceptions.InvalidSchema: _WRONG_SETUP,
    requests.exceptions.RequestException: _BROKEN,
    urllib3.exceptions.TimeoutError: _LATE,
    urllib3.exceptions.SSLError: _TLS,
    urllib3.exceptions.ProtocolError: _LOST,
    urllib3.exceptions.HTTPError: _BROKEN,
    HTTPException: _LOST,
    TimeoutError: _LATE,
    ConnectionError: _LOST,
    OSError: _BROKEN,
    # glanceclient's from_response() on an answer that is not Glance's but,
    # say, a proxy's: no content type, JSON of another shape, not UTF-8.
    KeyError: _BROKEN,
    AttributeError: _BROKEN,
    UnicodeDecodeError: _BROKEN,
}

#: What :func:`find_row` has an answer for.
FOREIGN = tuple(TABLE)


_TOKENS_URL = re.compile(r'https?://\S+/auth/tokens\b')


def find_row(error: BaseException) -> Row | None:
    """The row of *error*, or None if it is nothing that we know."""
    row = STATUSES.get(get_status(error) or 0)
    if row is not None:
        return row
    for kind in type(error).__mro__:
        if kind in TABLE:
            return _keystones(TABLE[kind], error)
    return None


def _keystones(row: Row, error: BaseException) -> Row:
    """Keystone's own row for a connection to it that failed.

    The token is asked for within the call to Glance, and fails with the same
    class; only the URL in the text tells which of the two is away.
    """
    text = f'{getattr(error, "message", "")} {error.args}'
    if row not in (_LOST, _LATE) or not _TOKENS_URL.search(text):
        return row
    return _KEYSTONE_AWAY if row.is_transient else _KEYSTONE_BROKEN


def get_status(error: BaseException) -> int | None:
    """The status of Glance's answer, if *error* is one.

    glanceclient drops the number of a status it has no class for (410, 415,
    429, 504 …); it stays readable at the front of the page that came along.
    """
    if not isinstance(error, exc.HTTPException):
        return None
    if isinstance(error.code, int):
        return error.code
    match = re.match(r'\s*([1-5]\d\d)\b', str(error.details))
    return int(match.group(1)) if match else None


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well work a moment later."""
    row = find_row(error)
    return row is not None and row.is_transient


def is_transient_or_500(error: BaseException) -> bool:
    """The same where a 500, too, is known to pass: see delete_image()."""
    return is_transient(error) or get_status(error) == 500


def translate(error: BaseException, what: str, *,
              missing: OurError = exception.GlanceImageNotFound,
              remedies: Mapping[OurError, str] | None = None
              ) -> exception.VolumeRBDError:
    """*error* as one of ours.

    :param what: what was tried, to what: ``Looking up Glance image 1234``.
    :param missing: what a 404 means here: the image, or the whole call.
    :param remedies: better advice than the table's, by our error.
    """
    row = find_row(error) or _BROKEN
    ours = missing if get_status(error) == 404 else row.ours
    remedy = (remedies or {}).get(ours) or row.remedy
    said = describe(error)
    if not said.endswith(('!', '?', '…')):
        said += '.'
    translated = ours(f'{what} failed: {said}', remedy=remedy)
    if row.is_keystone and isinstance(translated,
                                      exception.GlanceUnavailable):
        translated.was_sent = False
    return translated


# -- words ------------------------------------------------------------------
_LONGEST = 400
# glanceclient says so of whatever went wrong with a connection.
_PREFIX = re.compile(r'Error (finding address for|communicating with) \S+ ')
_URL_PASSWORD = re.compile(r'://[^/\s@]*@')
_FERNET_TOKEN = re.compile(r'gAAAA[\w=-]{20,}')


def describe(error: BaseException) -> str:
    """What *error* says, on one line and without a secret."""
    if holds_header(error):
        return ('a token, or another header, has characters that HTTP does '
                'not allow')
    if not isinstance(error, FOREIGN):
        return type(error).__name__
    if isinstance(error, exc.HTTPException):
        return _answer(error)
    if isinstance(error, (KeyError, AttributeError, UnicodeDecodeError)):
        return 'the answer is not one that Glance gives'
    return _plain(str(error)) or type(error).__name__


def _answer(error: exc.HTTPException) -> str:
    details = str(error.details)
    if details == type(error).__name__:  # glanceclient's word for nothing
        return f'Glance answered {error.code} and no more'
    # A record that does not fit the schema: the reason, and not the schema.
    return _plain(details.partition('Failed validating')[0])


def holds_header(error: BaseException) -> bool:
    """Whether requests quotes a header, so perhaps a token, in *error*."""
    original = getattr(error, 'original', None)
    return any(isinstance(each, requests.exceptions.InvalidHeader)
               for each in (error, original))


def _plain(text: str) -> str:
    text = ' '.join(html.unescape(text).split())
    text = _PREFIX.sub('', text)
    text = _URL_PASSWORD.sub('://***@', text)
    text = _FERNET_TOKEN.sub('***', text)
    text = strutils.mask_password(text)
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + ' …'
    return text.rstrip(' .:')
