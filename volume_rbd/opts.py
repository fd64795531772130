# SPDX-License-Identifier: Apache-2.0
"""The options, and the frozen values that are made from them.

Names and defaults are those an operator of Cinder's RBD driver already has, so
that a cinder.conf works as it is. CONF is read here, once, at the doors
(command line, facade); everything below is handed a :class:`BackendConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from keystoneauth1 import loading as ks_loading
from oslo_config import cfg

from volume_rbd import exception
from volume_rbd.model import GIB

default_opts: list[cfg.Opt] = [
    cfg.ListOpt(
        'enabled_backends',
        help='The sections of this file that are backends. Each has the '
             'options of a backend; sections with another volume_driver '
             'than an RBD driver are left alone.'),
    cfg.ListOpt(
        'glance_api_servers',
        help="Glance's URLs; the first one is used. Empty: the image "
             'endpoint of the service catalog.'),
    cfg.IntOpt(
        'glance_num_retries', default=3, min=0,
        help='How often an idempotent call to Glance is tried again.'),
    cfg.IntOpt(
        'glance_request_timeout', min=1,
        help='Seconds after which a call to Glance is given up, if it does '
             'not answer. Unset: 600 for what moves bytes, long enough for '
             'the end of an upload, and 60 for all else.'),
    cfg.BoolOpt(
        'glance_api_insecure', default=False,
        help='Do not verify the TLS certificate of Glance and Keystone.'),
    cfg.StrOpt(
        'glance_ca_certificates_file',
        help='CA certificates for Glance and Keystone.'),
    cfg.IntOpt(
        'per_volume_gigabytes', default=-1, min=-1,
        help='The largest volume, in GiB, that may be made; -1: no limit.'),
    cfg.StrOpt(
        'flow_connection', default='memory', secret=True,
        help="Where running flows are kept, as taskflow's persistence "
             'connection: memory, mysql+pymysql://…, postgresql://… or '
             'dir:///…'),
]

service_user_opts: list[cfg.Opt] = [
    cfg.BoolOpt(
        'send_service_user_token', default=False,
        help='Cinder has this option; the command line sends the service '
             'token wherever it has service credentials.'),
]

backend_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'volume_driver',
        help='Read only to leave the sections of other drivers alone.'),
    cfg.StrOpt(
        'volume_backend_name',
        help="The backend's name for people; the section's name if unset."),
    cfg.StrOpt(
        'rbd_cluster_name', default='ceph',
        help='The name of the Ceph cluster.'),
    cfg.StrOpt(
        'rbd_pool', default='rbd',
        help='The ceph_pool in which the volumes are.'),
    cfg.StrOpt(
        'rbd_user',
        help='The cephx user, without "client.". It needs "profile rbd" on '
             "rbd_pool and on the pool of Glance's store."),
    cfg.StrOpt(
        'rbd_ceph_conf', default='',
        help="Path of the ceph.conf; empty: librados' own search."),
    cfg.StrOpt(
        'rbd_secret_uuid',
        help="The libvirt secret of rbd_user's key; unset: the cluster's "
             'fsid.'),
    cfg.IntOpt(
        'rados_connect_timeout', default=-1,
        help="Seconds to wait for the monitors; -1: librados' default."),
    cfg.IntOpt(
        'rados_connection_retries', default=3, min=0,
        help='How often a failed connection is tried again.'),
    cfg.IntOpt(
        'rados_connection_interval', default=5, min=0,
        help='Seconds between two tries to connect.'),
    cfg.BoolOpt(
        'rbd_flatten_volume_from_snapshot', default=False,
        help='Make volumes independent of what they come from.'),
    cfg.IntOpt(
        'rbd_max_clone_depth', default=5, min=0,
        help='The longest chain of clones, counted through real ancestors '
             'across pools; 0: never clone.'),
    cfg.IntOpt(
        'rbd_store_chunk_size', default=4, min=1, max=32,
        help='The object size of new volumes, in MiB.'),
    cfg.IntOpt(
        'rbd_concurrent_flatten_operations', default=3, min=1,
        help='How many flattens run at once in the background.'),
    cfg.BoolOpt(
        'enable_clone_optimization', default=False,
        help='Upload a volume to an image by a copy-on-write clone where '
             "Glance's store is in the same cluster. The image then has no "
             'hash until Glance has computed one in the background, and '
             'depends on the volume unless clone_upload_flatten says '
             'otherwise: read the security note.'),
    cfg.StrOpt(
        'clone_upload_flatten', default='never',
        choices=[
            ('never', 'the image shares the data of the volume'),
            ('background', 'cut loose after the image is active'),
            ('before_register', "cut loose first: for a Glance user that "
                                'may not read the volumes pool')],
        help='When a clone made by an upload is flattened.'),
    cfg.IntOpt(
        'clone_registration_timeout', default=60, min=1,
        help='Seconds to wait until Glance has made a registered location '
             'active; after that it stays pending.'),
    cfg.BoolOpt(
        'allow_legacy_locations', default=False,
        help='Where Glance does not offer the new locations API, register '
             'with PATCH, which needs show_multiple_locations in Glance. '
             'That lets project members set any location: leave it off.'),
    cfg.ListOpt(
        'rbd_image_pools', default=[],
        help="The ceph_pools of Glance's RBD stores, where Glance does not "
             'tell them. Locations in other pools are never trusted.'),
    cfg.StrOpt(
        'upload_store',
        help='The Glance store that uploads go to; unset: the default '
             'store.'),
    cfg.IntOpt(
        'copy_operations', default=16, min=1, max=64,
        help='How many reads or writes of a transfer are in flight.'),
    cfg.StrOpt(
        'flow_connection', secret=True,
        help="This backend's own flow_connection."),
]

GLANCE_GROUP = 'glance'
SERVICE_USER_GROUP = 'service_user'
BACKEND_DEFAULTS = 'backend_defaults'


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """What identifies a connection; equal ones share it.

    :param ceph_conf: path, or '' for librados' own search (CEPH_CONF too).
    :param connect_timeout_s: None for librados' default.
    """

    cluster_name: str = 'ceph'
    user: str | None = None
    ceph_conf: str = ''
    connect_timeout_s: int | None = None
    retries: int = 3
    retry_interval_s: float = 5.0


@dataclasses.dataclass(frozen=True)
class GlanceConfig:
    """:param endpoint: None for the service catalog's."""

    endpoint: str | None = None
    region_name: str | None = None
    retries: int = 3
    request_timeout_s: int = 600
    insecure: bool = False
    ca_file: str | None = None

    @property
    def call_timeout_s(self) -> int:
        """For what moves no bytes: nobody waits ten minutes for a record."""
        return min(self.request_timeout_s, 60)


@dataclasses.dataclass(frozen=True)
class BackendConfig:
    """One backend, frozen. Field names follow the options."""

    name: str
    pool: str
    cluster: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    secret_uuid: str | None = None
    flatten_volume_from_snapshot: bool = False
    max_clone_depth: int = 5
    object_size_bytes: int = 4 * 1024 ** 2
    concurrent_flattens: int = 3
    enable_clone_optimization: bool = False
    clone_upload_flatten: str = 'never'
    registration_timeout_s: float = 60
    allow_legacy_locations: bool = False
    image_pools: tuple[str, ...] = ()
    upload_store: str | None = None
    copy_operations: int = 16
    max_volume_bytes: int | None = None
    flow_connection: str = 'memory'


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register what is not a backend's; backends follow by name."""
    conf.register_opts(default_opts)
    conf.register_opts(service_user_opts, group=SERVICE_USER_GROUP)
    conf.register_opts([cfg.StrOpt('region_name')], group=GLANCE_GROUP)
    for group in (GLANCE_GROUP, SERVICE_USER_GROUP):
        ks_loading.register_auth_conf_options(conf, group)
        ks_loading.register_session_conf_options(conf, group)


def load_config(files: Sequence[str]) -> cfg.ConfigOpts:
    """Read *files* into a ConfigOpts of its own.

    :raises ConfigurationError: a file is missing or does not parse.
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    try:
        conf([], project='volume-rbd', default_config_files=list(files),
             default_config_dirs=[])
    except cfg.Error as error:
        raise exception.ConfigurationError(
            f'The configuration cannot be read: {error}.',
            remedy='Correct the file, or name another with '
                   '--config-file.') from error
    return conf


def backend_names(conf: cfg.ConfigOpts) -> list[str]:
    """The enabled backends that are ours to drive, in the file's order."""
    names: list[str] = conf.enabled_backends or []
    return [name for name in names if _is_rbd(conf, name)]


def _is_rbd(conf: cfg.ConfigOpts, name: str) -> bool:
    conf.register_opts(backend_opts, group=name)
    driver: str | None = conf[name].volume_driver
    return driver is None or 'rbd' in driver.lower()


def get_backend_config(conf: cfg.ConfigOpts, name: str) -> BackendConfig:
    """The frozen configuration of the section *name*.

    :raises BackendNotFound: it is not enabled.
    :raises ConfigurationError: a value is wrong or contradicts another.
    """
    if name not in backend_names(conf):
        enabled = ', '.join(backend_names(conf)) or 'none'
        raise exception.BackendNotFound(
            f'There is no RBD backend {name!r}; enabled are: {enabled}.',
            remedy='Name one of them with --backend, or add it to '
                   'enabled_backends.')
    try:
        return _freeze(conf, name)
    except (cfg.Error, ValueError) as error:
        raise exception.ConfigurationError(
            f'Backend {name!r}: {error}',
            remedy='See the configuration reference.') from error


class _Section:
    """A backend's section; what it does not set comes from
    ``[backend_defaults]``, as in Cinder."""

    def __init__(self, conf: cfg.ConfigOpts, name: str) -> None:
        conf.register_opts(backend_opts, group=BACKEND_DEFAULTS)
        self._conf = conf
        self._name = name

    def __getattr__(self, option: str) -> Any:
        found = self._conf.get_location(option, self._name)
        is_set = found is not None and found.location not in (
            cfg.Locations.opt_default, cfg.Locations.set_default)
        return self._conf[self._name if is_set else BACKEND_DEFAULTS][option]


def _freeze(conf: cfg.ConfigOpts, name: str) -> BackendConfig:
    group = _Section(conf, name)
    chunk_mib: int = group.rbd_store_chunk_size
    if chunk_mib & (chunk_mib - 1):
        raise exception.ConfigurationError(
            f'Backend {name!r}: rbd_store_chunk_size {chunk_mib} is no power '
            'of two.', remedy='Use 1, 2, 4, 8, 16 or 32.')
    if group.allow_legacy_locations and not group.enable_clone_optimization:
        raise exception.ConfigurationError(
            f'Backend {name!r}: allow_legacy_locations has no meaning '
            'without enable_clone_optimization.',
            remedy='Remove the one or turn the other on.')
    timeout: int = group.rados_connect_timeout
    limit: int = conf.per_volume_gigabytes
    return BackendConfig(
        name=name,
        pool=group.rbd_pool,
        cluster=ClusterConfig(
            cluster_name=group.rbd_cluster_name,
            user=group.rbd_user,
            ceph_conf=group.rbd_ceph_conf,
            connect_timeout_s=timeout if timeout >= 0 else None,
            retries=group.rados_connection_retries,
            retry_interval_s=group.rados_connection_interval),
        secret_uuid=group.rbd_secret_uuid,
        flatten_volume_from_snapshot=group.rbd_flatten_volume_from_snapshot,
        max_clone_depth=group.rbd_max_clone_depth,
        object_size_bytes=chunk_mib * 1024 ** 2,
        concurrent_flattens=group.rbd_concurrent_flatten_operations,
        enable_clone_optimization=group.enable_clone_optimization,
        clone_upload_flatten=group.clone_upload_flatten,
        registration_timeout_s=group.clone_registration_timeout,
        allow_legacy_locations=group.allow_legacy_locations,
        image_pools=tuple(group.rbd_image_pools),
        upload_store=group.upload_store,
        copy_operations=group.copy_operations,
        max_volume_bytes=limit * GIB if limit >= 0 else None,
        flow_connection=group.flow_connection or conf.flow_connection)


def get_glance_config(conf: cfg.ConfigOpts) -> GlanceConfig:
    """:raises ConfigurationError: a value is wrong."""
    try:
        return _freeze_glance(conf)
    except (cfg.Error, ValueError) as error:
        raise exception.ConfigurationError(
            f'Glance: {error}',
            remedy='See the configuration reference.') from error


def _freeze_glance(conf: cfg.ConfigOpts) -> GlanceConfig:
    servers: list[str] = conf.glance_api_servers or []
    endpoint = servers[0] if servers else None
    if endpoint and '//' not in endpoint:
        endpoint = 'http://' + endpoint
    return GlanceConfig(
        endpoint=endpoint,
        region_name=conf[GLANCE_GROUP].region_name,
        retries=conf.glance_num_retries,
        request_timeout_s=conf.glance_request_timeout or 600,
        insecure=conf.glance_api_insecure,
        ca_file=conf.glance_ca_certificates_file)


def list_opts() -> Iterable[tuple[str, list[cfg.Opt]]]:
    """The entry point of oslo.config.opts: for the sample file and docs."""
    return [
        ('DEFAULT', default_opts),
        ('backend', backend_opts),
        (SERVICE_USER_GROUP, service_user_opts),
    ]
