# SPDX-License-Identifier: Apache-2.0
"""A compute agent's configuration, frozen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from oslo_config import cfg

from volume_rbd import exception, model, opts
from volume_rbd.compute import options

#: What a backend of disks is called in messages and records.
BACKEND_NAME = 'libvirt'

# Of a backend, as Nova calls them.
_NOVA_NAMES = {
    'rbd_ceph_conf': 'images_rbd_ceph_conf',
    'rados_connect_timeout': 'rbd_connect_timeout',
}
# A snapshot of a disk is an image of its own, made in seconds.
_DEFAULTS: dict[str, Any] = {
    'enable_clone_optimization': True,
    'clone_upload_flatten': 'before_register',
    'rbd_exclusive_cinder_pool': False,
}


@dataclasses.dataclass(frozen=True)
class FetchConfig:
    """:param cluster: where images are read, and as whom.
    :param schemes: of locations that may be read directly.
    """

    cluster: opts.ClusterConfig
    cache_folder: Path
    schemes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """:param images_type: rbd, qcow2 or raw.
    :param disks: the ceph_pool of the disks as a backend; also where
        images_type is not rbd, and then with nothing in it.
    :param store_folder: of the storage_pool of type dir.
    :param instances_folder: of the disks of before there was one: each in
        its guest's folder.
    :param copy_store: the Glance store that images are copied into to be
        cloned; None: they are not.
    :param snapshot_format: None: that of the disk.
    """

    images_type: str
    disks: opts.BackendConfig
    fetch: FetchConfig
    store_folder: Path
    instances_folder: Path
    copy_store: str | None = None
    copy_poll_s: float = 15
    copy_timeout_s: float = 600
    connection_uri: str = 'qemu:///system'
    base_storage_pool: str = 'nova-base-images-pool'
    disks_storage_pool: str = 'nova-disks-pool'
    snapshot_format: str | None = None


class _Libvirt:
    """``[libvirt]`` with the attributes of a backend's section."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def __getattr__(self, option: str) -> Any:
        if option == 'rbd_pool':
            return self._pool()
        if option == 'rbd_attach_user':
            return None  # guests open their disks as their agent does
        name = _NOVA_NAMES.get(option, option)
        if name in _DEFAULTS and not _is_set(self._conf, name):
            return _DEFAULTS[name]
        return self._conf[options.LIBVIRT_GROUP][name]

    def _pool(self) -> str:
        group = self._conf[options.LIBVIRT_GROUP]
        pool: str = group.images_rbd_pool
        if group.images_type.lower() == 'rbd' and group.images_store:
            pool = group.images_store
        return pool


def get_config(conf: cfg.ConfigOpts) -> ComputeConfig:
    """Out of a configuration that has read its files (``nova.conf``).

    :raises ConfigurationError: a value is wrong or contradicts another.
    """
    options.register_opts(conf)
    try:
        return _freeze(conf)
    except (cfg.Error, ValueError) as error:
        raise exception.ConfigurationError(
            f'[libvirt]: {error}',
            remedy='See the configuration reference.') from error


def _freeze(conf: cfg.ConfigOpts) -> ComputeConfig:
    group = conf[options.LIBVIRT_GROUP]
    images_type = group.images_type.lower()
    disks = _freeze_disks(conf)
    instances = Path(conf.instances_path)
    store = (group.images_store if images_type != 'rbd' else None)
    return ComputeConfig(
        images_type={'default': 'qcow2', 'flat': 'raw'}.get(images_type,
                                                            images_type),
        disks=disks,
        fetch=_freeze_fetch(conf, disks.cluster, instances),
        store_folder=Path(store) if store else instances / 'disks',
        instances_folder=instances,
        copy_store=group.images_rbd_glance_store_name or None,
        copy_poll_s=group.images_rbd_glance_copy_poll_interval,
        copy_timeout_s=group.images_rbd_glance_copy_timeout,
        connection_uri=group.connection_uri or 'qemu:///system',
        base_storage_pool=group.base_storage_pool,
        disks_storage_pool=group.disks_storage_pool,
        snapshot_format=group.snapshot_image_format)


def _freeze_disks(conf: cfg.ConfigOpts) -> opts.BackendConfig:
    defaults = opts.get_signature_defaults(conf)
    if conf[opts.GLANCE_GROUP].verify_glance_signatures:
        defaults['verify_signatures'] = 'required'
    disks = opts.freeze_backend(
        _Libvirt(conf), BACKEND_NAME,
        vmdk_allowed_types=conf.vmdk_allowed_types,
        flow_connection=conf.flow_connection, **defaults)
    group = conf[options.LIBVIRT_GROUP]
    return dataclasses.replace(
        disks, layout=_freeze_layout(group, disks.layout),
        must_clone=group.images_rbd_must_clone)


def _freeze_layout(group: Any, layout: model.Layout) -> model.Layout:
    """:param layout: of who asks for neither stripes nor a data pool."""
    layout = dataclasses.replace(
        layout,
        stripe_unit_bytes=group.images_rbd_stripe_unit * 1024 or None,
        stripe_count=group.images_rbd_stripe_count or None,
        data_pool=group.images_rbd_data_pool or None)
    try:
        layout.check()
    except exception.InvalidSize as error:
        raise exception.ConfigurationError(
            '[libvirt] images_rbd_stripe_unit and images_rbd_stripe_count: '
            f'{error.message}', remedy=error.remedy) from None
    return layout


def _freeze_fetch(conf: cfg.ConfigOpts, disks: opts.ClusterConfig,
                  instances: Path) -> FetchConfig:
    group = conf[opts.GLANCE_GROUP]
    schemes = list(group.allowed_direct_url_schemes)
    if group.enable_rbd_download and 'rbd' not in schemes:
        schemes.append('rbd')
    timeout: int = group.rbd_connect_timeout
    return FetchConfig(
        cluster=dataclasses.replace(
            disks, user=group.rbd_user or disks.user,
            ceph_conf=group.rbd_ceph_conf or disks.ceph_conf,
            connect_timeout_s=timeout if timeout >= 0 else None),
        cache_folder=instances / conf[
            options.IMAGE_CACHE_GROUP].subdirectory_name,
        schemes=tuple(schemes))


def _is_set(conf: cfg.ConfigOpts, option: str) -> bool:
    found = conf.get_location(option, options.LIBVIRT_GROUP)
    return found is not None and found.location not in (
        cfg.Locations.opt_default, cfg.Locations.set_default)
