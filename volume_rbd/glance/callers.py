# SPDX-License-Identifier: Apache-2.0
"""Glance for those who ask a service to do something.

A request brings a token of its user's, and no password: it cannot be renewed,
and an upload may well take longer than it lives. So the service's own token
goes beside it wherever there is one. Keystone then takes the user's also
when it has expired (``allow_expired``, for two days), and the service's is
renewed whenever that is needed. What a user may not ask, the stores' details,
an image's locations and its tasks, is asked as the service alone.
"""

from __future__ import annotations

from typing import Any

from keystoneauth1 import plugin
from keystoneauth1 import session as ks_session
from keystoneauth1.access import service_catalog
from oslo_config import cfg

from volume_rbd import exception, model, opts
from volume_rbd.glance import client, stores
from volume_rbd.glance import session as sessions

_GIVE_SERVICE = (
    'give [service_user] (or [glance]) the credentials of a user with the '
    'role service, for instance with "auth_section = keystone_authtoken"')
_REFUSED_ALONE = (
    'The token of the request is not valid, or not any more: ask again. So '
    f'that an operation may outlast its token, {_GIVE_SERVICE}, and do not '
    'set send_service_user_token to false.')
_REFUSED_PAIR = (
    "The token of the request is not valid although the service's went with "
    'it: it was revoked, its user lost the project, or it expired and '
    "Glance's [keystone_authtoken] service_token_roles names no role of the "
    'service user. Ask again.')


class CallerAuth(plugin.BaseAuthPlugin):
    """The token of a request, sent as it is.

    :param service: who knows where the services are; None: the request's
        own catalog does.
    :ivar role_names: what the request says; only to choose words by.
    """

    def __init__(self, caller: model.Caller,
                 service: plugin.BaseAuthPlugin | None = None) -> None:
        super().__init__()
        self.role_names = caller.roles
        self._caller = caller
        self._service = service

    def get_token(self, session: Any) -> str:
        return self._caller.auth_token

    def get_endpoint(self, session: Any, **wanted: Any) -> str | None:
        if self._service is not None:
            found: str | None = self._service.get_endpoint(session, **wanted)
            return found
        catalog = service_catalog.ServiceCatalogV2(
            [dict(entry) for entry in self._caller.service_catalog])
        url: str | None = catalog.url_for(
            service_type=wanted.get('service_type'),
            interface=wanted.get('interface'),
            region_name=wanted.get('region_name'))
        return url

    def get_user_id(self, session: Any) -> str | None:
        return self._caller.user_id

    def get_project_id(self, session: Any) -> str | None:
        return self._caller.project_id


class Door:
    """Opens Glance for callers, and for the service itself.

    One for a whole process, and safe to share between its threads: the
    service's token and its answers about the stores are shared by all
    callers, who come and go with each request.

    :raises ConfigurationError: a section has an auth_type and lacks the rest,
        or send_service_user_token is true and nobody has credentials.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._config = opts.get_glance_config(conf)
        self._service = sessions.service_session(conf, self._config)
        self._beside = sessions.service_session(
            conf, self._config, (opts.SERVICE_USER_GROUP, opts.GLANCE_GROUP))
        wanted: bool | None = conf[
            opts.SERVICE_USER_GROUP].send_service_user_token
        if wanted and self._beside is None:
            raise exception.ConfigurationError(
                'send_service_user_token is true, and there are no '
                'credentials of a service.',
                remedy=f'{_GIVE_SERVICE[0].upper()}{_GIVE_SERVICE[1:]}; or '
                       'remove send_service_user_token.')
        self._goes_along = self._beside is not None and wanted is not False
        self._own: client.GlanceClient | None = None
        self._shared: stores.SharedStores | None = None
        if self._service is not None:
            self._own = self._open(self._service, self._service)
            self._shared = stores.SharedStores(self._own.fetch_stores)

    def for_caller(self, caller: model.Caller | None) -> client.GlanceClient:
        """Glance as *caller*; as the service where nobody asked.

        Cheap, and nothing is connected yet: one for each operation.

        :raises ConfigurationError: nobody asked, and there is no service.
        """
        if caller is None:
            return self.as_service()
        user = self._session(self._auth(caller))
        if self._goes_along:
            pair = sessions.paired_session(user, self._beside)
            return self._open(pair, self._service, pair, caller,
                              _REFUSED_PAIR)
        return self._open(user, self._service, self._pair_of(user), caller,
                          _REFUSED_ALONE)

    def as_service(self) -> client.GlanceClient:
        """Glance as the service: for work that nobody asked for.

        :raises ConfigurationError: there are no credentials.
        """
        if self._own is None:
            raise exception.ConfigurationError(
                'Nothing says who the service is for Glance.',
                remedy=f'{_GIVE_SERVICE[0].upper()}{_GIVE_SERVICE[1:]}.')
        return self._own

    def get_auth(self, caller: model.Caller | None) -> Any:
        """The keystoneauth plugin by which other services (the key manager)
        are asked for *caller*; None where there is nobody."""
        if caller is None:
            return self._service.auth if self._service else None
        user = self._session(self._auth(caller))
        if self._goes_along:
            return sessions.paired_session(user, self._beside).auth
        return user.auth

    def _auth(self, caller: model.Caller) -> CallerAuth:
        return CallerAuth(
            caller, self._service.auth if self._service else None)

    def _pair_of(self, user: sessions.Session) -> sessions.Session | None:
        if self._beside is None:
            return None
        return sessions.paired_session(user, self._beside)

    def _session(self, auth: CallerAuth) -> sessions.Session:
        """TLS as for the service: a request says nothing of it."""
        like = self._beside
        if like is None:
            return sessions.open_session(auth, self._config)
        return ks_session.Session(
            auth=auth, verify=like.verify, cert=like.cert,
            timeout=like.timeout, app_name=sessions.USER_AGENT)

    def _open(self, user: sessions.Session, service: sessions.Session | None,
              pair: sessions.Session | None = None,
              caller: model.Caller | None = None, when_refused: str = ''
              ) -> client.GlanceClient:
        return client.GlanceClient(
            self._config, user, service, pair=pair,
            interface=self._config.interface,
            shared=self._shared if caller else None,
            request_id=caller.request_id if caller else None,
            when_refused=when_refused)


def open_for_caller(conf: cfg.ConfigOpts, caller: model.Caller | None
                    ) -> client.GlanceClient:
    """Glance as *caller*, once. Who has many callers keeps a :class:`Door`.

    :raises ConfigurationError: see :class:`Door`.
    """
    return Door(conf).for_caller(caller)
