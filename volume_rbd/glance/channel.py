# SPDX-License-Identifier: Apache-2.0
"""One set of credentials on its way to Glance.

A channel has a glanceclient for the calls and a bare adapter for the bytes.
The bytes do not go through glanceclient: it cannot be told not to send a body
again after a 401, and what it would send the second time is the rest of a
source that has been read already, an empty image; and it cuts them into
pieces of 1 MiB, see :mod:`.upload` and :mod:`.download`.

Safe to share between threads: keystoneauth locks its tokens and requests
takes connections from a pool.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import glanceclient
from glanceclient import exc
from glanceclient.common import utils
from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ks_exc
from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.glance import errors, images, retry
from volume_rbd.glance import session as sessions

LOG = logging.getLogger(__name__)

# Glance makes UUIDs, and lets clients choose nothing else since Kilo.
_IMAGE_ID = re.compile(r'[0-9A-Za-z_-]{1,64}\Z')

T = TypeVar('T')
Remedies = Mapping[errors.OurError, str]


class Channel:
    """:param session: a keystoneauth session, from :mod:`.session`.
    :param request_id: goes along, for Glance to log.
    :param when_refused: what to do about a 401; empty: the usual.
    """

    def __init__(self, session: Any, config: opts.GlanceConfig, *,
                 interface: str = 'public', request_id: str | None = None,
                 when_refused: str = '',
                 sleep: Callable[[float], None] = time.sleep) -> None:
        where = {
            'region_name': config.region_name,
            'interface': interface,
            'endpoint_override': _without_version(config.endpoint),
            'global_request_id': request_id,
        }
        self.client = glanceclient.Client('2', session=session, **where)
        self._bytes = adapter.Adapter(session, service_type='image',
                                      raise_exc=False, **where)
        self._transfer_timeout_s = config.request_timeout_s
        self._retries = config.retries
        self._when_refused = when_refused
        self._sleep = sleep

    def is_admin(self) -> bool:
        """Whether the token has the role admin."""
        return 'admin' in sessions.role_names(
            self.client.http_client.session)

    def who(self) -> tuple[str | None, str | None]:
        """The ids of the project and the user, as far as they are known."""
        session = self.client.http_client.session
        try:
            return session.get_project_id(), session.get_user_id()
        except ks_exc.ClientException as error:
            # Whatever needs them says it better.
            LOG.debug('Whose token it is is not known: %s',
                      type(error).__name__)
            return None, None

    @property
    def images(self) -> Any:
        """glanceclient's controller of images."""
        return self.client.images

    @property
    def http(self) -> Any:
        """glanceclient's HTTP client: JSON in, (response, JSON) out."""
        return self.client.http_client

    def get_image(self, image_id: str) -> model.GlanceImage:
        # Not images.get(): it asks for the schema first, once, under a lock
        # that all glanceclients of the process share.
        url = image_url(image_id)
        raw = self.call(f'Looking up Glance image {image_id}',
                        lambda: self.http.get(url)[1])
        return images.image_from_json(raw)

    def call(self, what: str, func: Callable[[], T], *,
             missing: errors.OurError = exception.GlanceImageNotFound,
             remedies: Remedies | None = None,
             is_transient: Callable[[BaseException], bool]
             = errors.is_transient) -> T:
        """Call *func*, which is idempotent: transient errors are retried.

        :param what: for the error: ``Looking up Glance image 1234``.
        :param missing: what a 404 means.
        """
        try:
            return retry.retrying(func, what=what, retries=self._retries,
                                  sleep=self._sleep,
                                  is_transient=is_transient)
        except errors.FOREIGN as error:
            raise self.translate(
                error, what, missing=missing, remedies=remedies
                ) from _cause(error)

    def call_once(self, what: str, func: Callable[[], T], *,
                  remedies: Remedies | None = None) -> T:
        """Call *func*, which must not be repeated without looking first."""
        try:
            return func()
        except errors.FOREIGN as error:
            raise self.translate(error, what, remedies=remedies
                                 ) from _cause(error)

    def translate(self, error: BaseException, what: str, *,
                  remedies: Remedies | None = None, **options: Any
                  ) -> exception.VolumeRBDError:
        """*error* as one of ours; a 401 with advice for these credentials."""
        advice = dict(remedies or {})
        if self._when_refused and errors.get_status(error) == 401:
            advice[exception.GlanceUnauthorized] = self._when_refused
        return errors.translate(error, what, remedies=advice, **options)

    def send(self, url: str, body: Any, headers: Mapping[str, str]) -> None:
        """PUT *body*, once. Raises foreign errors.

        After a 401 or a redirect the body would be sent from wherever its
        source is by then, so neither is followed.
        """
        response = self._bytes.put(url, data=body, headers=dict(headers),
                                   allow_reauth=False, redirect=False,
                                   timeout=self._transfer_timeout_s)
        _raise_for_status(response)

    def receive(self, url: str) -> Any:
        """GET *url*; the response's body is still on the wire."""
        response = self._bytes.get(
            url, stream=True, headers={'Accept-Encoding': 'identity'},
            timeout=self._transfer_timeout_s)
        _raise_for_status(response)
        return response


def image_url(image_id: str, what: str = '') -> str:
    """The path of an image, or of what belongs to it: ``/file``.

    :raises GlanceImageNotFound: *image_id* cannot be one's id. It may come
        from anywhere, and a ``../`` in it would name something else.
    """
    if not _IMAGE_ID.match(image_id):
        raise exception.GlanceImageNotFound(
            f'{image_id!r} is not the id of a Glance image.')
    return f'/v2/images/{image_id}{what}'


def _raise_for_status(response: Any) -> None:
    """:raises glanceclient.exc.HTTPException: for all but 2xx."""
    if 200 <= response.status_code < 300:
        return
    try:
        error = exc.from_response(response, response.content)
    except (KeyError, AttributeError, UnicodeDecodeError):
        error = exc.from_response(response)  # not Glance's words: go without
    if error.code == 'N/A':
        error.code = response.status_code
    raise error


def _without_version(endpoint: str | None) -> str | None:
    """glanceclient adds the version to every URL by itself."""
    if not endpoint:
        return None
    url: str = utils.strip_version(endpoint)[0]
    return url.rstrip('/')


def _cause(error: BaseException) -> BaseException | None:
    """Chained, for the traceback; unless that would print a token."""
    return None if errors.holds_header(error) else error
