# SPDX-License-Identifier: Apache-2.0
"""Who talks to Glance: the user, the service, and both together.

The user's credentials come from the environment, as for every OpenStack
command; the service's from ``[glance]`` or else ``[service_user]`` of the
configuration. A session never mixes the two by accident: only
:func:`paired_session` sends both, the user's token as X-Auth-Token and the
service's as X-Service-Token, which is what Glance wants to see when a
location is registered. Inside of a service the user is the caller of a
request, see :mod:`.callers`.

No error and no log line of this module holds a value of a variable: names
only.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from keystoneauth1 import exceptions as ks_exc
from keystoneauth1 import loading as ks_loading
from keystoneauth1 import service_token
from keystoneauth1 import session as ks_session
from oslo_config import cfg
from oslo_log import log as logging

from volume_rbd import exception, opts

LOG = logging.getLogger(__name__)

USER_AGENT = 'volume-rbd'
GET_VARIABLES = ('Set them, for instance with "eval $(volume-rbd sandbox '
                 'env)" or "source openrc".')

# What the two kinds of credentials need that keystoneauth itself does not
# insist on: without a project there is no service catalog, and Keystone's
# complaint about the rest does not name the variable.
_PROJECT = ('OS_PROJECT_NAME', 'OS_PROJECT_ID', 'OS_TENANT_NAME',
            'OS_TENANT_ID', 'OS_SYSTEM_SCOPE', 'OS_TRUST_ID')
_NEEDED = {
    'password': (('OS_USERNAME', 'OS_USER_ID', 'OS_USER_NAME'),
                 ('OS_PASSWORD',), _PROJECT),
    'token': (('OS_TOKEN',), _PROJECT),
}
_NEEDED |= {'v3' + kind: needed for kind, needed in _NEEDED.items()}

Environ = Mapping[str, str]
Session = Any  # keystoneauth1.session.Session, which has no stubs here


def has_user(environ: Environ) -> bool:
    """Whether the environment speaks of a user at all."""
    return any(environ.get(name) for name in (
        'OS_AUTH_URL', 'OS_USERNAME', 'OS_USER_ID', 'OS_TOKEN',
        'OS_AUTH_TYPE', 'OS_CLOUD'))


def user_session(environ: Environ, config: opts.GlanceConfig) -> Session:
    """The session of whoever the OS_* variables name.

    OS_AUTH_TYPE may be any plugin of keystoneauth; without it OS_TOKEN makes
    it ``token`` and anything else ``password``.

    :raises ConfigurationError: variables are missing; it names them.
    """
    kind = environ.get('OS_AUTH_TYPE') or _guess_kind(environ)
    _check_needed(kind, environ)
    try:
        loader = ks_loading.get_plugin_loader(kind)
        auth = loader.load_from_options_getter(
            lambda opt: _from_environ(opt, environ))
    except ks_exc.MissingRequiredOptions as error:
        raise _missing([opt.argparse_envvars for opt in error.options],
                       environ) from None
    except ks_exc.AuthPluginException:
        raise exception.ConfigurationError(
            f'OS_AUTH_TYPE={kind} names no way to authenticate that is '
            'installed here, or its variables contradict each other.',
            remedy='Use password, token or v3applicationcredential.'
        ) from None
    return open_session(auth, config,
                        insecure=_is_true(environ.get('OS_INSECURE')),
                        ca_file=environ.get('OS_CACERT'),
                        cert=_pair(environ.get('OS_CERT'),
                                   environ.get('OS_KEY')))


def service_session(conf: cfg.ConfigOpts, config: opts.GlanceConfig,
                    groups: Sequence[str] = (opts.GLANCE_GROUP,
                                             opts.SERVICE_USER_GROUP)
                    ) -> Session | None:
    """The session of the first of *groups* that has credentials, or None.

    What the service asks for itself it asks as ``[glance]``; the token beside
    a user's is that of ``[service_user]``, as in Cinder. Each stands in for
    the other.

    :raises ConfigurationError: a section has an auth_type and lacks the rest.
    """
    for group in groups:
        session = _session_of_group(conf, group, config)
        if session is not None:
            return session
    return None


def paired_session(user: Session, service: Session) -> Session:
    """The user's session, with the service's token beside the user's."""
    auth = service_token.ServiceTokenAuthWrapper(
        user_auth=user.auth, service_auth=service.auth)
    return ks_session.Session(
        auth=auth, verify=user.verify, cert=user.cert, timeout=user.timeout,
        app_name=USER_AGENT)


def role_names(session: Session) -> Collection[str]:
    """The roles of whoever the session acts for."""
    auth = session.auth
    if isinstance(auth, service_token.ServiceTokenAuthWrapper):
        auth = auth.user_auth
    known: Collection[str] | None = getattr(auth, 'role_names', None)
    if known is not None:
        return known
    found: Collection[str] = auth.get_access(session).role_names
    return found


def open_sessions(conf: cfg.ConfigOpts, config: opts.GlanceConfig,
                  environ: Environ | None = None
                  ) -> tuple[Session, Session | None]:
    """The user's and the service's session, the latter None without one.

    Where the environment names nobody, whoever runs the command acts as the
    service of the configuration: an operator with a cinder.conf in hand.

    :raises ConfigurationError: there is nobody to act as.
    """
    environ = os.environ if environ is None else environ
    service = service_session(conf, config)
    if service is not None and not has_user(environ):
        LOG.info('No OS_* variables are set: Glance is used as the service '
                 'user of the configuration.')
        return service, service
    return user_session(environ, config), service


# -- the user ---------------------------------------------------------------
def _guess_kind(environ: Environ) -> str:
    if environ.get('OS_TOKEN') and not environ.get('OS_PASSWORD'):
        return 'token'
    return 'password'


def _check_needed(kind: str, environ: Environ) -> None:
    groups = _NEEDED.get(kind)
    if groups is None:
        return
    names = [('OS_AUTH_URL',), *groups]
    missing = [group for group in names
               if not any(environ.get(name) for name in group)]
    if missing:
        raise _missing(missing, environ)


def _missing(groups: Any, environ: Environ) -> exception.ConfigurationError:
    names = ', '.join(group[0] for group in groups)
    who = ('Some of the variables that say who you are are missing'
           if has_user(environ) else 'Nothing says who you are for Glance')
    return exception.ConfigurationError(
        f'{who}: {names}.',
        remedy=GET_VARIABLES + ' Or give a configuration file with '
               'credentials in [glance] or [service_user].')


def _from_environ(opt: Any, environ: Environ) -> Any:
    for name in opt.argparse_envvars:
        if environ.get(name):
            return environ[name]
    return opt.default


# -- the service ------------------------------------------------------------
def _session_of_group(conf: cfg.ConfigOpts, group: str,
                      config: opts.GlanceConfig) -> Session | None:
    try:
        # Again, now that the file has been read: an auth_section in it names
        # another group, whose auth_type nobody has registered yet.
        ks_loading.register_auth_conf_options(conf, group)
        auth = ks_loading.load_auth_from_conf_options(conf, group)
    except (ks_exc.AuthPluginException, cfg.Error) as error:
        raise exception.ConfigurationError(
            f'The credentials in [{group}] are not usable: '
            f'{_names_only(error)}.',
            remedy='Give auth_type, auth_url, username, password, '
                   'project_name and the two domains, or leave auth_type '
                   'out.') from None
    if auth is None:
        return None
    section = conf[group]
    return open_session(auth, config, insecure=section.insecure,
                        ca_file=section.cafile,
                        cert=_pair(section.certfile, section.keyfile))


def _names_only(error: Exception) -> str:
    options = getattr(error, 'options', None)
    if options:
        return 'missing ' + ', '.join(
            opt.dest for opt in options)
    name = getattr(error, 'name', None)
    if name:
        return f'auth_type {name!r} is not installed'
    return type(error).__name__


# -- both -------------------------------------------------------------------
def open_session(auth: Any, config: opts.GlanceConfig, *,
                 insecure: bool = False, ca_file: str | None = None,
                 cert: Any = None) -> Session:
    verify: bool | str = ca_file or config.ca_file or True
    if insecure or config.insecure:
        verify = False
    return ks_session.Session(
        auth=auth, verify=verify, cert=cert, app_name=USER_AGENT,
        timeout=config.call_timeout_s)


def _pair(cert: str | None, key: str | None) -> Any:
    return (cert, key) if cert and key else cert or None


def _is_true(text: str | None) -> bool:
    return (text or '').lower() in ('1', 'true', 'yes', 'on')
