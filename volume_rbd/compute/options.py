# SPDX-License-Identifier: Apache-2.0
"""The options of a compute agent.

Sections, names and defaults are those an operator of Nova already has, so that
a nova.conf works as it is. ``[libvirt]`` takes a backend's options besides
(volume_rbd.opts.backend_opts), because what is done with disks is what is done
with volumes.
"""

from __future__ import annotations

from collections.abc import Iterable

from oslo_config import cfg

from volume_rbd import opts

LIBVIRT_GROUP = 'libvirt'
IMAGE_CACHE_GROUP = 'image_cache'

default_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'state_path', default='/var/lib/nova',
        help='Where a compute agent keeps its state.'),
    cfg.StrOpt(
        'instances_path', default='$state_path/instances',
        help='The folder of the local disks and of the image cache.'),
]

image_cache_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'subdirectory_name', default='_base',
        help='The image cache: a folder within instances_path.'),
]

glance_opts: list[cfg.Opt] = [
    cfg.ListOpt(
        'allowed_direct_url_schemes', default=[],
        help='The kinds of locations that an image is fetched straight from: '
             '"rbd", or nothing. What cannot be fetched that way is '
             'downloaded from Glance.'),
    cfg.BoolOpt(
        'enable_rbd_download', default=False,
        help="Nova's newer option: the same as rbd in "
             'allowed_direct_url_schemes.'),
    cfg.StrOpt(
        'rbd_user',
        help='The cephx user that reads images, without "client."; it needs '
             '"profile rbd-read-only" on the pools of Glance\'s stores. '
             'Unset: [libvirt] rbd_user.'),
    cfg.StrOpt(
        'rbd_ceph_conf', default='',
        help='Path of the ceph.conf of the cluster of the images; empty: '
             '[libvirt] images_rbd_ceph_conf.'),
    cfg.IntOpt(
        'rbd_connect_timeout', default=5,
        help="Seconds to wait for the monitors; -1: librados' default."),
    cfg.BoolOpt(
        'verify_glance_signatures', default=False,
        help="Nova's option for all images: True is verify_signatures = "
             'required, where [libvirt] verify_signatures is not set.'),
]

libvirt_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        'images_type', default='default', ignore_case=True,
        choices=[
            ('default', 'qcow2'),
            ('rbd', 'rbd_images in the ceph_pool images_store; an image that '
                    'is in the same cluster is cloned'),
            ('qcow2', 'files in a storage_pool of type dir, which share the '
                      'data of the image in the cache'),
            ('raw', 'files in a storage_pool of type dir, copies of the '
                    'image in the cache'),
            ('flat', 'raw')],
        help='What the disks of guests are.'),
    cfg.StrOpt(
        'images_store',
        help='Where the disks are: with images_type rbd the ceph_pool; '
             'otherwise the folder of the storage_pool, "disks" within '
             'instances_path if unset.'),
    cfg.StrOpt(
        'images_rbd_pool', default='rbd',
        help="Nova's name for images_store with images_type rbd."),
    cfg.StrOpt(
        'images_rbd_ceph_conf', default='',
        help="Path of the ceph.conf; empty: librados' own search."),
    cfg.StrOpt(
        'images_rbd_data_pool',
        help='The erasure-coded ceph_pool that takes the data of the disks; '
             'unset: the pool they are in.'),
    cfg.IntOpt(
        'images_rbd_stripe_unit', default=0, min=0,
        help='KiB that go to one object before the next one has its turn; '
             'a power of two, at most rbd_store_chunk_size, and together '
             'with images_rbd_stripe_count. 0: no striping but by whole '
             'objects.'),
    cfg.IntOpt(
        'images_rbd_stripe_count', default=0, min=0,
        help='The objects that take turns.'),
    cfg.StrOpt(
        'images_rbd_glance_store_name',
        help="The Glance store in the disks' cluster. An image that has no "
             'location there is copied into it by Glance, once, and cloned '
             'then; unset: it is downloaded.'),
    cfg.IntOpt(
        'images_rbd_glance_copy_poll_interval', default=15, min=1,
        help='Seconds between two looks whether Glance has copied an image.'),
    cfg.IntOpt(
        'images_rbd_glance_copy_timeout', default=600, min=1,
        help='Seconds that Glance may take to copy an image.'),
    cfg.BoolOpt(
        'images_rbd_must_clone', default=False,
        help='Refuse to make a disk of an image that cannot be cloned, '
             'instead of moving its bytes.'),
    cfg.IntOpt(
        'rbd_connect_timeout', default=5,
        help="Seconds to wait for the monitors; -1: librados' default."),
    cfg.StrOpt(
        'connection_uri', default='',
        help='libvirt; empty: qemu:///system.'),
    cfg.StrOpt(
        'base_storage_pool', default='nova-base-images-pool',
        help='The storage_pool of the image cache.'),
    cfg.StrOpt(
        'disks_storage_pool', default='nova-disks-pool',
        help='The storage_pool of the disks.'),
    cfg.StrOpt(
        'snapshot_image_format',
        choices=['raw', 'qcow2', 'vmdk', 'vdi'],
        help='The format of images made of disks; unset: that of the '
             'disk.'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Beside those of volume_rbd.opts, in a configuration that has them."""
    conf.register_opts(default_opts)
    conf.register_opts(image_cache_opts, group=IMAGE_CACHE_GROUP)
    conf.register_opts(glance_opts, group=opts.GLANCE_GROUP)
    conf.register_opts(opts.backend_opts, group=LIBVIRT_GROUP)
    conf.register_opts(libvirt_opts, group=LIBVIRT_GROUP)


def list_opts() -> Iterable[tuple[str, list[cfg.Opt]]]:
    """The entry point of oslo.config.opts: for the sample file and docs."""
    return [
        ('DEFAULT', default_opts),
        (IMAGE_CACHE_GROUP, image_cache_opts),
        (opts.GLANCE_GROUP, glance_opts),
        (LIBVIRT_GROUP, libvirt_opts),
    ]
