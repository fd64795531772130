# SPDX-License-Identifier: Apache-2.0
"""Frozen facts that travel between the layers. No I/O, no decisions."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, Self

from volume_rbd import exception

GIB = 1024 ** 3
MIB = 1024 ** 2

#: An object map covers at most 256,000,000 objects (cls_rbd), of 4 MiB each.
MAX_GIB = 1_000_000

#: The snapshot's name in every location that Glance registers.
GLANCE_SNAPSHOT = 'snap'

#: Properties of Glance images that are encrypted: by which each of them can be
#: known as one. The first is Cinder's, and names the key.
KEY_ID_PROPERTY = 'cinder_encryption_key_id'
ENCRYPT_FORMAT_PROPERTY = 'os_encrypt_format'

# librbd takes more; '@' and '/' cannot be told from a snapshot or a pool, and
# control characters and leading dashes break every tool around it.
_NAME = re.compile(r'[A-Za-z0-9_.][A-Za-z0-9_.:+ -]{0,249}\Z')


def check_name(name: str, what: str = 'volume') -> str:
    """Return *name* if it can name an rbd_image or a snapshot.

    :raises InvalidName: if not.
    """
    if not _NAME.match(name):
        raise exception.InvalidName(
            f'{name!r} cannot be the name of a {what}.',
            remedy='Use letters, digits, "-", "_", ".", ":" and "+", at most '
                   '250, the first one not a dash.')
    return name


def size_bytes_from_gib(size_gib: object) -> int:
    """Turn a person's size in GiB into bytes.

    :raises InvalidSize: unless it is a whole positive number.
    """
    remedy = 'Give a whole number of GiB, 1 or more.'
    try:
        number = int(str(size_gib).replace('_', '?'))
    except ValueError:
        raise exception.InvalidSize(
            f'{size_gib!r} is not a size.', remedy=remedy) from None
    if number < 1:
        raise exception.InvalidSize(
            f'A size of {number} GiB is not possible.', remedy=remedy)
    if number > MAX_GIB:
        raise exception.InvalidSize(
            f'A size of {number} GiB is more than the {MAX_GIB} GiB that an '
            'object map can cover.', remedy=remedy)
    return number * GIB


def _is_power_of_two(number: int, least: int) -> bool:
    return number >= least and not number & (number - 1)


def gib_for(size_bytes: int) -> int:
    """The smallest whole number of GiB that holds *size_bytes*."""
    return -(-size_bytes // GIB)


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The name of an rbd_image."""

    pool: str
    name: str

    def __str__(self) -> str:
        return f'{self.pool}/{self.name}'


@dataclasses.dataclass(frozen=True)
class SnapSpec:
    """The name of a snapshot of an rbd_image."""

    pool: str
    image: str
    snapshot: str

    @property
    def image_spec(self) -> ImageSpec:
        return ImageSpec(self.pool, self.image)

    def __str__(self) -> str:
        return f'{self.pool}/{self.image}@{self.snapshot}'


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the bytes of an rbd_image lie in the objects of RADOS; what is None
    is as the cluster has it, or for a clone as its parent has it.

    :param object_size_bytes: a power of two.
    :param stripe_unit_bytes: goes to one object before the next one has its
        turn; divides the object size. None: whole objects.
    :param stripe_count: the objects that take turns; with the unit only.
    :param data_pool: the ceph_pool of the data, where the rbd_image's own has
        but its names and headers.
    """

    object_size_bytes: int | None = None
    stripe_unit_bytes: int | None = None
    stripe_count: int | None = None
    data_pool: str | None = None

    def check(self) -> None:
        """:raises InvalidSize: no rbd_image can lie so."""
        size, unit = self.object_size_bytes, self.stripe_unit_bytes
        if size is not None and not _is_power_of_two(size, 4096):
            raise exception.InvalidSize(
                f'An object size of {size} bytes is not possible.',
                remedy='Use a power of two.')
        if bool(unit) != bool(self.stripe_count):
            raise exception.InvalidSize(
                f'A stripe unit of {unit or 0} bytes and a stripe count of '
                f'{self.stripe_count or 0} do not go together.',
                remedy='Give both or none.')
        if unit and not (_is_power_of_two(unit, 512)
                         and unit <= (size or unit)):
            raise exception.InvalidSize(
                f'A stripe unit of {unit} bytes is not possible with objects '
                f'of {size} bytes.',
                remedy='Use a power of two, at most the size of an object.')

    def of_clone(self) -> Layout:
        """For a clone: objects as large as its parent's, unless stripes must
        fit into them."""
        if self.stripe_unit_bytes:
            return self
        return dataclasses.replace(self, object_size_bytes=None)


#: That of rbd_store_chunk_size.
DEFAULT_LAYOUT = Layout(4 * MIB)


@dataclasses.dataclass(frozen=True)
class RBDLocation:
    """A Glance location in RBD: ``rbd://fsid/pool/image/snapshot``.

    Each part is percent-encoded on the wire; there are exactly four (RBD
    namespaces cannot be expressed). Source: glance_store's rbd driver.
    """

    fsid: str
    pool: str
    image: str
    snapshot: str

    @classmethod
    def from_url(cls, url: str) -> RBDLocation:
        """:raises InvalidLocation: if it is not such a URL."""
        prefix = 'rbd://'
        if not url.startswith(prefix):
            raise exception.InvalidLocation(f'{url!r} is not an rbd:// URL.')
        quoted = url[len(prefix):].split('/')
        if len(quoted) != 4:
            raise exception.InvalidLocation(
                f'{url!r} has {len(quoted)} parts, not the four of '
                'rbd://fsid/pool/image/snapshot.')
        parts = [urllib.parse.unquote(part) for part in quoted]
        for part in parts:
            # An encoded slash or at-sign would name another object once some
            # other tool joins the parts again.
            if not part or any(c in '/@' or ord(c) < 32 for c in part):
                raise exception.InvalidLocation(
                    f'{url!r} has a part that cannot name anything in RBD.')
        return cls(*parts)

    @property
    def url(self) -> str:
        parts = (self.fsid, self.pool, self.image, self.snapshot)
        return 'rbd://' + '/'.join(
            urllib.parse.quote(part, safe='') for part in parts)

    @property
    def snap_spec(self) -> SnapSpec:
        return SnapSpec(self.pool, self.image, self.snapshot)


@dataclasses.dataclass(frozen=True)
class StoreInfo:
    """One row of Glance's stores-info-detail API.

    :param fsid: None where Glance is older than 2025.1 or cannot tell.
    """

    id: str
    type: str
    is_default: bool = False
    is_read_only: bool = False
    pool: str | None = None
    fsid: str | None = None
    chunk_size_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class GlanceImage:
    """What this project needs to know of a Glance image.

    :param size_bytes: None while the image has no data.
    :param virtual_size_bytes: the size of the disk inside, where Glance
        knows it; None for every image registered by location.
    :param locations: URLs, as far as Glance shows them to whoever asked.
    :param properties: everything else Glance said of it, strings only.
    """

    id: str
    name: str | None
    status: str
    disk_format: str | None = None
    container_format: str | None = None
    size_bytes: int | None = None
    virtual_size_bytes: int | None = None
    min_disk_gib: int = 0
    owner: str | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    stores: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def needed_bytes(self) -> int:
        """The size of the disk inside, in bytes: what a volume must hold."""
        return max(self.virtual_size_bytes or 0, self.size_bytes or 0)

    @property
    def is_encrypted(self) -> bool:
        return (self.disk_format == 'luks' or any(
            self.properties.get(key) for key in (
                KEY_ID_PROPERTY, ENCRYPT_FORMAT_PROPERTY,
                'os_decrypt_size')))


@dataclasses.dataclass(frozen=True)
class VolumeSpec:
    """A volume of the block-storage service, as its caller knows it.

    :param name: the name of its rbd_image.
    :param size_bytes: None where the caller does not know it. An encrypted
        one is larger by its header.
    :param is_encrypted: None: whoever must know looks at its first bytes.
    :param is_multiattach: several may have it open for writing at once.
    :param qos: limits in the words of the service, e.g. total_iops_sec.
    """

    name: str
    size_bytes: int | None = None
    is_encrypted: bool | None = None
    is_multiattach: bool = False
    qos: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Hashes:
    """Of the bytes of a Glance image, in hexadecimal.

    :param algorithm, value: os_hash_algo and os_hash_value.
    :param checksum: MD5.
    """

    algorithm: str
    value: str
    checksum: str | None = None


@dataclasses.dataclass(frozen=True)
class Extent:
    """A range of an rbd_image: data, or a hole that reads as zeros."""

    offset: int
    length: int
    exists: bool

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asked the service for an operation, as the request says it.

    Lives as long as the operation. The token is a secret: no repr, log, error
    or flow record has it. It cannot be renewed, only be sent together with a
    service's: Keystone then takes it for two days after it has expired.

    :param request_id: is sent on, so that the logs of two services meet.
    :param service_catalog: the request's; only used where nothing else says
        where Glance is.
    """

    auth_token: str = dataclasses.field(repr=False)
    user_id: str | None = None
    project_id: str | None = None
    user_domain_id: str | None = None
    project_domain_id: str | None = None
    roles: tuple[str, ...] = ()
    request_id: str | None = None
    service_catalog: tuple[Mapping[str, Any], ...] = dataclasses.field(
        default=(), repr=False, compare=False)

    @classmethod
    def find(cls, context: Mapping[str, Any]) -> Self | None:
        """The caller in ``RequestContext.to_dict()``, or in what
        ``dataclasses.asdict`` made of a Caller.

        :returns: None for work that nobody asked for: it has no token.
        """
        token = context.get('auth_token')
        if not token:
            return None
        return cls(
            auth_token=token,
            user_id=context.get('user_id') or context.get('user'),
            project_id=context.get('project_id'),
            user_domain_id=(context.get('user_domain_id')
                            or context.get('user_domain')),
            project_domain_id=(context.get('project_domain_id')
                               or context.get('project_domain')),
            roles=tuple(context.get('roles') or ()),
            request_id=(context.get('global_request_id')
                        or context.get('request_id')),
            service_catalog=tuple(context.get('service_catalog') or ()))
