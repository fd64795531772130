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
from oslo_config import cfg, types

from volume_rbd import exception, model, option_checks, sections
from volume_rbd.model import GIB

flow_opt = cfg.StrOpt(
    'flow_connection', default='rados://', secret=True,
    help="Where running flows are kept, as taskflow's persistence "
         'connection: rados://, in the pool of the volumes, or '
         'rados://POOL/NAMESPACE?user=…&conf=… for another; '
         'mysql+pymysql://…, postgresql://… or dir:///…; memory: nowhere, '
         'so that nobody takes up what a killed process was doing.')

VMDK_ALLOWED_TYPES = ('streamOptimized', 'monolithicSparse')

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
    cfg.StrOpt(
        'glance_catalog_info', default='image:glance:publicURL',
        help="Which endpoint of the service catalog is Glance's, where "
             'glance_api_servers is empty, as TYPE:NAME:INTERFACE; the name '
             'does not matter. On the command line OS_INTERFACE goes '
             'before.'),
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
    cfg.ListOpt(
        'vmdk_allowed_types', default=list(VMDK_ALLOWED_TYPES),
        help='The createTypes of the vmdk images that volumes are made of. '
             'Only these two are single files that refer to nothing else; '
             'others are refused whatever stands here. Empty: no vmdk.'),
    cfg.BoolOpt(
        'image_conversion_disable', default=False,
        help='Make volumes only from raw images and images only as raw: '
             'never convert a format.'),
    cfg.IntOpt(
        'per_volume_gigabytes', default=-1, min=-1,
        help='The largest volume, in GiB, that may be made; -1: no limit.'),
    flow_opt,
]

#: Registered with the configurations of other services too, where one names
#: our key manager.
certificate_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'signature_certificates_dir',
        help='A folder with the certificates of signed images, each as '
             'ID.pem, ID being what the image has as '
             'img_signature_certificate_uuid. Unset: they are fetched from '
             '[key_manager] backend, Barbican by default.'),
    cfg.ListOpt(
        'signature_trusted_certificates', default=[],
        help='The ids of certificates of which one must have issued the '
             "certificate of an image's signature (or be it). Empty: every "
             'certificate that the key manager gives out is trusted.'),
]

signature_opts: list[cfg.Opt] = [
    *certificate_opts,
    cfg.StrOpt(
        'verify_glance_signatures',
        choices=[('enabled', 'verify_signatures = when_present'),
                 ('disabled', 'verify_signatures = off')],
        help="Cinder's option for all backends: what verify_signatures is "
             'where that is not set.'),
]

service_user_opts: list[cfg.Opt] = [
    cfg.BoolOpt(
        'send_service_user_token',
        help="Whether a service's token goes to Glance beside the token of "
             'the request, so that an operation ends well although that '
             'one expires meanwhile: the token of [service_user], else of '
             '[glance]. True without credentials in either is refused at '
             'start. Unset: wherever there are credentials. False: only to '
             'register a location, which Glance does not take otherwise; an '
             'expired token then ends the operation. Credentials that are '
             'written down elsewhere in the file are named with '
             'auth_section, for instance "auth_section = '
             'keystone_authtoken".'),
]

#: What Cinder itself has registered for every backend.
service_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'volume_driver',
        help='Read only to leave the sections of other drivers alone.'),
    cfg.StrOpt(
        'volume_backend_name',
        help="The backend's name for people; the section's name if unset."),
    cfg.IntOpt(
        'reserved_percentage', default=0, min=0, max=100,
        help='How much of the capacity the scheduler leaves alone.'),
    cfg.StrOpt(
        'max_over_subscription_ratio', default='20.0',
        regex=r'^(auto|\d*\.\d+|\d+)$',
        help='How many times the capacity may be provisioned; "auto": as the '
             'scheduler works out.'),
    cfg.MultiOpt(
        'replication_device', item_type=types.Dict(), secret=True,
        help='The other cluster of a replicated backend. Replication comes '
             'with a later release; until then this option is refused.'),
]

backend_opts: list[cfg.Opt] = [
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
        'rbd_attach_user',
        help='The cephx user that hypervisors open volumes as, without '
             '"client."; unset: rbd_user. It needs "profile rbd" on rbd_pool '
             'and "profile rbd-read-only" on the pools that volumes are '
             'cloned from, so that the key that may write to the images '
             'stays with this service.'),
    cfg.StrOpt(
        'rbd_ceph_conf', default='',
        help="Path of the ceph.conf; empty: librados' own search."),
    cfg.StrOpt(
        'rbd_secret_uuid',
        help="The libvirt secret of the key of rbd_attach_user or rbd_user, "
             "a UUID; unset: the cluster's fsid."),
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
        'report_dynamic_total_capacity', default=True,
        help='Report as total capacity what is stored and what can still be '
             "written; False: the pool's quota, or without one the size of "
             'the whole cluster.'),
    cfg.BoolOpt(
        'rbd_exclusive_cinder_pool', default=True,
        help='Nobody else has rbd_images in rbd_pool, so what is provisioned '
             'is what this service has made. False: the sizes of all '
             'rbd_images are added up; they are remembered, and it costs a '
             'small read for each new one.'),
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
        help='How many flattens run at once, of those that are in the '
             'background and those that somebody waits for together.'),
    cfg.IntOpt(
        'background_operations', default=4, min=1, max=64,
        help='How many flattens and removals of deleted volumes run at once '
             'in the background, in each process. They share this fairly. '
             'What somebody waits for does not count.'),
    cfg.IntOpt(
        'background_bytes_per_s', default=0, min=0,
        help='How many bytes a second all flattens in the background of this '
             'backend may move together, in each process, about; a removal '
             'moves none. 0: no limit.'),
    cfg.StrOpt(
        'background_hours', default='',
        help='When flattens and removals may run in the background, as '
             'HH:MM-HH:MM by the clock of the host, for instance '
             '22:00-06:00. What runs at the end stops, and goes on the next '
             'time. Empty: always.'),
    cfg.StrOpt(
        'background_tasks', default='auto',
        choices=[
            ('auto', "Ceph's manager does what is large, where it answers "
                     'and bytes are not limited; this service does the rest'),
            ('mgr', "Ceph's manager, where it answers"),
            ('local', 'this service')],
        help='Who flattens and removes in the background. The manager (its '
             'module rbd_support) goes on when this service ends, but does '
             'one thing after another for the whole cluster, and cannot be '
             'held to a bandwidth. rbd_user needs the cap "mgr \'profile '
             'rbd\'" for it.'),
    cfg.StrOpt(
        'flatten_when', default='before_use',
        choices=[
            ('before_use', 'the volume is not available before it is '
                           'flattened'),
            ('background', 'it is available at once')],
        help='When a volume is flattened that comes from a snapshot or a '
             'volume, because of rbd_flatten_volume_from_snapshot or '
             'rbd_max_clone_depth. In the background, one that reaches that '
             'depth is flattened early; one that would exceed it because '
             'earlier ones still wait is flattened before use, so that no '
             'chain is ever longer. A flatten in the background that fails '
             'leaves the volume a clone and is tried again.'),
    cfg.BoolOpt(
        'enable_deferred_deletion', default=False,
        help='Keep deleted volumes in the trash for '
             'deferred_deletion_delay; until then "rbd trash restore" brings '
             'one back. They use space meanwhile. Off: they go through the '
             'trash too, and are removed at once in the background.'),
    cfg.IntOpt(
        'deferred_deletion_delay', default=0, min=0,
        help='Seconds that a deleted volume is kept, where '
             'enable_deferred_deletion is on.'),
    cfg.IntOpt(
        'deferred_deletion_purge_interval', default=60, min=1,
        help='Seconds between two looks for volumes in the trash whose time '
             'has come, or whose removal was interrupted. Only what this '
             'driver has put there is ever removed.'),
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
    cfg.StrOpt(
        'verify_signatures',
        choices=[
            ('off', 'nobody looks at them'),
            ('when_present', 'an image that is signed must have the bytes '
                             'that were signed'),
            ('required', 'and one that is not signed makes no volume')],
        help='Whether the signature of an image (its img_signature '
             'properties) is verified when a volume is made of it. By every '
             'strategy: what is downloaded is verified as it passes; for a '
             'clone the whole snapshot is read once, before it is cloned, '
             'and that is remembered while the process runs. A certificate '
             'must be valid now. Unset: as verify_glance_signatures says; '
             "where that is unset too, when_present, Cinder's default."),
    cfg.BoolOpt(
        'image_base_cache', default=False,
        help='Convert an image that is not raw once: into a raw base in '
             'rbd_pool, of which its volumes are clones. It goes when it is '
             'needed no more: without clones, and the image is deleted or '
             'the limits ask for room. Not for an image whose signature must '
             'be verified, nor with rbd_flatten_volume_from_snapshot.'),
    cfg.IntOpt(
        'image_base_cache_max_count', default=50, min=0,
        help='How many bases are kept; 0: no limit. For a new one the one '
             'that was not used for longest goes, of those without clones; '
             'if all have clones, the volume is converted for itself.'),
    cfg.IntOpt(
        'image_base_cache_max_gib', default=200, min=0,
        help='How much data the bases may hold together, in GiB; 0: no limit. '
             'Before a new one is made room is made for as much as the '
             "image's file has; where that is more than the limit, or all "
             'others have clones, the volume is converted for itself. A '
             'compressed file holds more, which is known only once the base '
             'is there.'),
    cfg.IntOpt(
        'copy_operations', default=16, min=1, max=64,
        help='How many reads or writes of a transfer are in flight.'),
    cfg.IntOpt(
        'copy_bandwidth', default=0, min=0,
        help='How many MiB a second all transfers of this backend may move '
             'together: copies, uploads and downloads, in each process that '
             'runs them; what is a hole does not count, nor does what '
             'qemu-img converts or Ceph flattens. 0: no limit.'),
    cfg.BoolOpt(
        'verify_copies', default=False,
        help='After a copy inside the cluster (an upload or a volume from an '
             'image by the strategy copy, a volume moved to another pool) '
             'read the source and the copy once more and compare them byte '
             'for byte. One that differs is undone, and the operation fails. '
             'It costs twice the reads.'),
    cfg.BoolOpt(
        'glance_secure_hash', default=True,
        help='What do_secure_hash is in glance-api.conf, which Glance does '
             'not tell. True: Glance hashes by itself what is registered by '
             'location, so a copy is not hashed on its way. False: it keeps '
             'the hash that it is given, so a copy is hashed on its way and '
             'the hash is registered with it. Where this is False and '
             'do_secure_hash is on, Glance reads the whole image before it '
             'makes it active.'),
    cfg.StrOpt(
        'glance_hashing_algorithm', default='sha512',
        choices=['sha512', 'sha256', 'sha1', 'md5'],
        help='What hashing_algorithm is in glance-api.conf, for where '
             'glance_secure_hash is False. These are the ones that Glance '
             'takes with a location.'),
    cfg.StrOpt(
        'flow_connection', secret=True,
        help="This backend's own flow_connection."),
    cfg.IntOpt(
        'job_lease', default=15, min=3, max=15,
        help='Seconds for which a job belongs to the process that runs it; '
             'prolonged as long as it runs. When they are over, the process '
             'was killed or is cut off from the cluster, and another one '
             'goes on with the job or undoes it.'),
    cfg.StrOpt(
        'jobboard', default='', secret=True,
        help='Where workers on other hosts ("volume-rbd worker") find what '
             'they are to do: redis://HOST:PORT, etcd://HOST:PORT or '
             'zookeeper://HOST:PORT,HOST:PORT; options of the client follow '
             'as ?NAME=VALUE. It is only where jobs are posted: all that is '
             'known of them stays where flow_connection says, which must be '
             'a place that all hosts reach. Empty: whoever is asked for an '
             'operation does it.'),
    cfg.StrOpt(
        'jobboard_namespace', default='volume_rbd', regex=r'^[\w.-]+$',
        help='What the names of our keys on the jobboard begin with.'),
    cfg.IntOpt(
        'jobboard_timeout', default=30, min=1,
        help='Seconds for which a job waits for a worker, also for another '
             'one when a worker was killed. After that it is done where it '
             'was asked for.'),
    cfg.IntOpt(
        'replication_connect_timeout', default=5,
        help='Seconds to wait for the other cluster of a replicated '
             'backend, which a later release will have.'),
    *service_opts,
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
    """:param endpoint: None for the service catalog's.
    :param interface: of the catalog: public, internal or admin.
    """

    endpoint: str | None = None
    interface: str = 'public'
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
    """One backend, frozen. Field names follow the options.

    :param background_hours: from and to, in minutes of the day; None: all
        day.
    :param must_clone: what is made of an image is a clone, or is not made.
    """

    name: str
    pool: str
    cluster: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    secret_uuid: str | None = None
    attach_user: str | None = None
    report_dynamic_total: bool = True
    is_exclusive_pool: bool = True
    reserved_percentage: int = 0
    max_over_subscription_ratio: str = '20.0'
    flatten_volume_from_snapshot: bool = False
    must_clone: bool = False
    max_clone_depth: int = 5
    layout: model.Layout = model.DEFAULT_LAYOUT
    concurrent_flattens: int = 3
    background_operations: int = 4
    background_bytes_per_s: int | None = None
    background_hours: tuple[int, int] | None = None
    background_tasks: str = 'auto'
    flatten_when: str = 'before_use'
    deletion_delay_s: int = 0
    purge_interval_s: int = 60
    enable_clone_optimization: bool = False
    clone_upload_flatten: str = 'never'
    registration_timeout_s: float = 60
    allow_legacy_locations: bool = False
    image_pools: tuple[str, ...] = ()
    upload_store: str | None = None
    image_base_cache: bool = False
    base_cache_max_count: int = 50
    base_cache_max_bytes: int = 200 * GIB
    copy_operations: int = 16
    copy_bytes_per_s: int | None = None
    verify_copies: bool = False
    glance_secure_hash: bool = True
    glance_hashing_algorithm: str = 'sha512'
    verify_signatures: str = 'when_present'
    trusted_certificates: tuple[str, ...] = ()
    max_volume_bytes: int | None = None
    vmdk_allowed_types: tuple[str, ...] = VMDK_ALLOWED_TYPES
    may_convert: bool = True
    flow_connection: str = 'rados://'
    job_lease_s: int = 15
    jobboard: str = ''
    jobboard_namespace: str = 'volume_rbd'
    jobboard_timeout_s: int = 30


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register what is not a backend's; backends follow by name."""
    conf.register_opts(default_opts)
    conf.register_opts(signature_opts)
    conf.register_opts(service_user_opts, group=SERVICE_USER_GROUP)
    conf.register_opts([cfg.StrOpt('region_name')], group=GLANCE_GROUP)
    for group in (GLANCE_GROUP, SERVICE_USER_GROUP):
        ks_loading.register_auth_conf_options(conf, group)
        ks_loading.register_session_conf_options(conf, group)


def load_config(files: Sequence[str], folders: Sequence[str] = ()
                ) -> cfg.ConfigOpts:
    """Read *files*, and the ``.conf`` files in *folders*, into a ConfigOpts
    of its own.

    :raises ConfigurationError: a file is missing or does not parse.
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    try:
        conf([], project='volume-rbd', default_config_files=list(files),
             default_config_dirs=list(folders))
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
        check(conf, name)
        return _freeze(conf, name)
    except (cfg.Error, ValueError) as error:
        raise exception.ConfigurationError(
            f'Backend {name!r}: {error}',
            remedy='See the configuration reference.') from error


_VERIFY = {None: 'when_present', 'enabled': 'when_present',
           'disabled': 'off'}


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
    limit: int = conf.per_volume_gigabytes
    return freeze_backend(
        _Section(conf, name), name,
        max_volume_bytes=limit * GIB if limit >= 0 else None,
        vmdk_allowed_types=conf.vmdk_allowed_types,
        may_convert=not conf.image_conversion_disable,
        flow_connection=conf.flow_connection,
        **get_signature_defaults(conf))


def get_signature_defaults(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """Arguments of :func:`freeze_backend`, out of the options that are no
    backend's.

    :param conf: also Cinder's own, which has verify_glance_signatures.
    """
    conf.register_opts(certificate_opts)
    return {
        'verify_signatures': _VERIFY[conf.verify_glance_signatures],
        'trusted_certificates': conf.signature_trusted_certificates,
    }


def freeze_backend(group: Any, name: str, *,
                   max_volume_bytes: int | None = None,
                   vmdk_allowed_types: Sequence[str] = VMDK_ALLOWED_TYPES,
                   may_convert: bool = True,
                   flow_connection: str = 'rados://',
                   verify_signatures: str = 'when_present',
                   trusted_certificates: Sequence[str] = ()
                   ) -> BackendConfig:
    """The frozen configuration of a backend.

    :param group: has the options of :data:`backend_opts` as attributes.
    :param flow_connection: where the backend has none of its own; likewise
        *verify_signatures*.
    :raises ConfigurationError: a value is wrong or contradicts another.
    """
    option_checks.check_values(group, name)
    flow_connection = group.flow_connection or flow_connection
    option_checks.check_jobboard(name, group.jobboard, flow_connection)
    timeout: int = group.rados_connect_timeout
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
        secret_uuid=group.rbd_secret_uuid or None,
        attach_user=group.rbd_attach_user or None,
        report_dynamic_total=group.report_dynamic_total_capacity,
        is_exclusive_pool=group.rbd_exclusive_cinder_pool,
        reserved_percentage=group.reserved_percentage,
        max_over_subscription_ratio=group.max_over_subscription_ratio,
        flatten_volume_from_snapshot=group.rbd_flatten_volume_from_snapshot,
        max_clone_depth=group.rbd_max_clone_depth,
        layout=model.Layout(group.rbd_store_chunk_size * 1024 ** 2),
        concurrent_flattens=group.rbd_concurrent_flatten_operations,
        background_operations=group.background_operations,
        background_bytes_per_s=group.background_bytes_per_s or None,
        background_hours=option_checks.parse_hours(group.background_hours,
                                                   name),
        background_tasks=group.background_tasks,
        flatten_when=group.flatten_when,
        deletion_delay_s=(group.deferred_deletion_delay
                          if group.enable_deferred_deletion else 0),
        purge_interval_s=group.deferred_deletion_purge_interval,
        enable_clone_optimization=group.enable_clone_optimization,
        clone_upload_flatten=group.clone_upload_flatten,
        registration_timeout_s=group.clone_registration_timeout,
        allow_legacy_locations=group.allow_legacy_locations,
        image_pools=tuple(group.rbd_image_pools),
        upload_store=group.upload_store,
        image_base_cache=group.image_base_cache,
        base_cache_max_count=group.image_base_cache_max_count,
        base_cache_max_bytes=group.image_base_cache_max_gib * GIB,
        copy_operations=group.copy_operations,
        copy_bytes_per_s=group.copy_bandwidth * 1024 ** 2 or None,
        verify_copies=group.verify_copies,
        glance_secure_hash=group.glance_secure_hash,
        glance_hashing_algorithm=group.glance_hashing_algorithm,
        verify_signatures=group.verify_signatures or verify_signatures,
        trusted_certificates=tuple(trusted_certificates),
        max_volume_bytes=max_volume_bytes,
        vmdk_allowed_types=tuple(vmdk_allowed_types),
        may_convert=may_convert,
        flow_connection=flow_connection,
        job_lease_s=group.job_lease,
        jobboard=group.jobboard,
        jobboard_namespace=group.jobboard_namespace,
        jobboard_timeout_s=group.jobboard_timeout)


def find_unknown(conf: cfg.ConfigOpts, name: str) -> list[sections.Unknown]:
    """What is written in section *name* and is surely a mistake: a name that
    begins with ``rbd_`` or is nearly one of ours, and is neither ours nor the
    stock driver's. Options of Cinder and of others pass.

    :param conf: one that has read its files; need not know our options.
    """
    return option_checks.find_unknown(
        conf, name, [option.name for option in backend_opts])


def check_unknown(conf: cfg.ConfigOpts, name: str) -> None:
    """:param conf: see :func:`find_unknown`.
    :raises ConfigurationError: says which option, and what may be meant.
    """
    unknown = find_unknown(conf, name)
    if unknown:
        raise exception.ConfigurationError(
            f'Backend {name!r}: there is no option '
            f'{", ".join(map(str, unknown))}.',
            remedy='Correct or remove it; see the configuration reference.')


def check(conf: cfg.ConfigOpts, name: str) -> None:
    """Refuse what is written in section *name* and has no effect there.

    :param conf: see :func:`find_unknown`.
    :raises ConfigurationError:
    """
    check_unknown(conf, name)
    option_checks.check_written(conf, name, BACKEND_DEFAULTS)


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
        interface=_catalog_interface(conf.glance_catalog_info),
        region_name=conf[GLANCE_GROUP].region_name,
        retries=conf.glance_num_retries,
        request_timeout_s=conf.glance_request_timeout or 600,
        insecure=conf.glance_api_insecure,
        ca_file=conf.glance_ca_certificates_file)


def _catalog_interface(info: str) -> str:
    """:raises ValueError: *info* is not type:name:interface."""
    parts = info.split(':')
    interface = parts[-1].removesuffix('URL')
    if (len(parts) != 3 or parts[0] != 'image'
            or interface not in ('public', 'internal', 'admin')):
        raise ValueError(
            f'glance_catalog_info {info!r} is not of the form '
            'image:glance:publicURL (or internalURL, adminURL).')
    return interface


def list_opts() -> Iterable[tuple[str, list[cfg.Opt]]]:
    """The entry point of oslo.config.opts: for the sample file and docs."""
    return [
        ('DEFAULT', default_opts + signature_opts),
        ('backend', backend_opts),
        (SERVICE_USER_GROUP, service_user_opts),
    ]
