# SPDX-License-Identifier: Apache-2.0
"""The plan of upload_to_image: a volume becomes an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from volume_rbd import exception, model
from volume_rbd.plan.words import (
    BUILT,
    Choice,
    Operation,
    Plan,
    Reason,
    Strategy,
    refuse_conversion,
    settle,
)

#: The disk formats, as Glance calls them, that a volume can be converted to.
WRITABLE_FORMATS = frozenset({
    'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'ploop'})


@dataclasses.dataclass(frozen=True)
class UploadFacts:
    """:param stores: None where Glance did not tell, for the reason given.
    :param wanted_store: a store id that was asked for, or the type's.
    :param depth: how many ancestors the volume has.
    :param flatten_first: clone_upload_flatten is before_register.
    :param may_convert: image_conversion_disable is off.
    :param decryption_wanted: the image is to be the disk inside.
    """

    size_bytes: int
    fsid: str
    clone_enabled: bool
    stores: tuple[model.StoreInfo, ...] | None = None
    stores_problem: Reason | None = None
    wanted_store: str | None = None
    disk_format: str = 'raw'
    container_format: str = 'bare'
    is_encrypted: bool = False
    decryption_wanted: bool = False
    depth: int = 0
    max_clone_depth: int = 5
    flatten_first: bool = False
    may_convert: bool = True
    built: frozenset[Strategy] = BUILT


def choose_store(stores: Sequence[model.StoreInfo], wanted: str | None
                 ) -> model.StoreInfo | None:
    """The store an upload goes to; None if there is no default.

    :raises StoreNotFound: no store of the wanted id.
    :raises StoreReadOnly: it takes no images.
    """
    names = ', '.join(store.id for store in stores) or 'none'
    for store in stores:
        if store.id == wanted or (wanted is None and store.is_default):
            if store.is_read_only:
                raise exception.StoreReadOnly(
                    f'Store {store.id!r} is read-only.',
                    remedy=f'Name another with --store; Glance has: {names}.')
            return store
    if wanted is not None:
        raise exception.StoreNotFound(
            f'Glance has no store {wanted!r}.',
            remedy=f'It has: {names}.')
    return None


def plan_upload(facts: UploadFacts) -> Plan:
    """Decide how a volume becomes an image.

    :raises StoreNotFound, StoreReadOnly: no way can help.
    :raises NotSupported: nothing we have could do it.
    """
    store = None
    if facts.stores is not None:
        store = choose_store(facts.stores, facts.wanted_store)
    elif facts.wanted_store is not None:
        # Glance will say itself whether it has it.
        store = model.StoreInfo(facts.wanted_store, type='')
    plan = Plan(Operation.UPLOAD_TO_IMAGE, (), store=store,
                size_bytes=facts.size_bytes)
    obstacle = _obstacle(facts, store)
    if obstacle is None:
        return dataclasses.replace(plan, choices=(
            Choice(Strategy.CLONE, Reason.SAME_CLUSTER),
            *(Choice(way, Reason.CLONE_FAILED)
              for way in _ways_after_clone(facts))))
    wanted = _ways_without_clone(facts, obstacle)
    if (Strategy.CONVERT in wanted and not facts.may_convert
            and facts.disk_format != 'raw'):
        raise refuse_conversion(plan.operation)
    return settle(plan, obstacle, _detail(facts, obstacle, store), wanted,
                  facts.built)


def _detail(facts: UploadFacts, obstacle: Reason,
            store: model.StoreInfo | None) -> str:
    if obstacle is Reason.NOT_RAW:
        return f'disk_format {facts.disk_format}'
    if obstacle is Reason.NOT_BARE:
        return f'container_format {facts.container_format}'
    if store is not None and obstacle in _ABOUT_STORE:
        return f'store {store.id}'
    return ''


_ABOUT_STORE = frozenset({
    Reason.STORE_NOT_RBD, Reason.STORE_FSID_UNKNOWN,
    Reason.STORE_OTHER_CLUSTER})


def _obstacle(facts: UploadFacts, store: model.StoreInfo | None
              ) -> Reason | None:
    if facts.container_format != 'bare':
        return Reason.NOT_BARE
    if facts.decryption_wanted and _can_decrypt(facts):
        return Reason.DECRYPTION_WANTED
    if facts.disk_format != 'raw':
        return Reason.NOT_RAW
    if not facts.clone_enabled:
        return Reason.CLONE_DISABLED
    if facts.size_bytes == 0:
        return Reason.EMPTY_VOLUME
    return (_store_obstacle(facts, store)
            or (Reason.ENCRYPTED_VOLUME if facts.is_encrypted else None)
            or _depth_obstacle(facts))


def _can_decrypt(facts: UploadFacts) -> bool:
    return facts.is_encrypted and (
        facts.disk_format == 'raw' or facts.disk_format in WRITABLE_FORMATS)


def _store_obstacle(facts: UploadFacts, store: model.StoreInfo | None
                    ) -> Reason | None:
    if facts.stores is None:
        return facts.stores_problem or Reason.STORES_BROKEN
    if store is None:
        return Reason.NO_DEFAULT_STORE
    if store.type != 'rbd' or not store.pool:
        return Reason.STORE_NOT_RBD
    if not store.fsid:
        return Reason.STORE_FSID_UNKNOWN
    if store.fsid != facts.fsid:
        return Reason.STORE_OTHER_CLUSTER
    return None


def _depth_obstacle(facts: UploadFacts) -> Reason | None:
    if facts.flatten_first and facts.max_clone_depth > 0:
        return None
    if facts.depth + 1 > facts.max_clone_depth:
        return Reason.DEPTH_REACHED
    return None


def _ways_after_clone(facts: UploadFacts) -> tuple[Strategy, ...]:
    """A copy lies in the store's pool and shares nothing: that helps where
    Glance may not read the volumes' pool. A clone that is flattened first
    does not share anything either."""
    if facts.flatten_first or Strategy.COPY not in facts.built:
        return (Strategy.UPLOAD,)
    return (Strategy.COPY, Strategy.UPLOAD)


def _ways_without_clone(facts: UploadFacts, reason: Reason
                        ) -> tuple[Strategy, ...]:
    if reason is Reason.NOT_BARE:
        return ()
    if reason is Reason.NOT_RAW:
        # The bytes of an encrypted volume are no disk: nothing converts them.
        is_writable = (facts.disk_format in WRITABLE_FORMATS
                       and not facts.is_encrypted)
        return (Strategy.CONVERT,) if is_writable else ()
    if reason is Reason.DECRYPTION_WANTED:
        return (Strategy.CONVERT,)
    if reason in (Reason.DEPTH_REACHED, Reason.ENCRYPTED_VOLUME):
        # Both may lie in the store's pool, but share nothing.
        return (Strategy.COPY, Strategy.UPLOAD)
    return (Strategy.UPLOAD,)
