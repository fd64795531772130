# SPDX-License-Identifier: Apache-2.0
"""Taking over what is in the pool, and letting it go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cinder import exception as cinder_exception
from cinder.volume import volume_utils

from volume_rbd import model
from volume_rbd.cinder import errors, specs
from volume_rbd.cinder.backend import Backend

Row = dict[str, Any]

_KEY = 'source-name'


class Managing(Backend):
    """manage, unmanage, and the lists of what can be managed."""

    # -- volumes -------------------------------------------------------------
    def manage_existing(self, volume: Any, existing_ref: Any) -> Row:
        name = _get_name(existing_ref)
        with errors.translating(errors.MANAGE):
            spec = specs.get_volume(volume)
            self.backend().manage.manage(
                name, volume.name, qos_specs=spec.qos or None,
                is_multiattach=spec.is_multiattach)
        return specs.describe(spec)

    def manage_existing_get_size(self, volume: Any, existing_ref: Any) -> int:
        """In GiB, rounded up."""
        name = _get_name(existing_ref)
        with errors.translating(errors.MANAGE):
            return model.gib_for(self.backend().manage.get_size_bytes(name))

    def unmanage(self, volume: Any) -> None:
        with errors.translating():
            self.backend().manage.unmanage(volume.name)

    def get_manageable_volumes(
            self, cinder_volumes: Sequence[Mapping[str, Any]], marker: Any,
            limit: int, offset: int, sort_keys: Sequence[str],
            sort_dirs: Sequence[str]) -> list[Row]:
        """Opens only those on the page: a pool may have ten thousand."""
        # After a migration the name bears another id than the volume's own.
        known = {volume.get('_name_id') or volume['id']: volume['id']
                 for volume in cinder_volumes}
        with errors.translating():
            manage = self.backend().manage
            page = _page([_row(name, size_bytes) for name, size_bytes
                          in manage.sizes().items()],
                         marker, limit, offset, sort_keys, sort_dirs)
            details = {entry.name: entry for entry in manage.list_volumes(
                [row['reference'][_KEY] for row in page])}
        return [_judged(row, details[name].reason_not_safe, known.get(
            volume_utils.extract_id_from_volume_name(name)))
            for row in page if (name := row['reference'][_KEY]) in details]

    # -- snapshots -----------------------------------------------------------
    def manage_existing_snapshot(self, snapshot: Any, existing_ref: Any
                                 ) -> None:
        name = _get_name(existing_ref)
        with errors.translating(errors.MANAGE):
            self.backend().manage.manage_snapshot(
                snapshot.volume_name, name, snapshot.name)

    def manage_existing_snapshot_get_size(self, snapshot: Any,
                                          existing_ref: Any) -> int:
        """In GiB, rounded up."""
        name = _get_name(existing_ref)
        with errors.translating(errors.MANAGE):
            return model.gib_for(
                self.backend().manage.get_snapshot_size_bytes(
                    snapshot.volume_name, name))

    def unmanage_snapshot(self, snapshot: Any) -> None:
        with errors.translating():
            self.backend().manage.unmanage_snapshot(
                snapshot.volume_name, snapshot.name)

    def get_manageable_snapshots(
            self, cinder_snapshots: Sequence[Mapping[str, Any]], marker: Any,
            limit: int, offset: int, sort_keys: Sequence[str],
            sort_dirs: Sequence[str]) -> list[Row]:
        known = {snapshot['id'] for snapshot in cinder_snapshots}
        with errors.translating():
            driver = self.backend()
            found = driver.manage.list_snapshots(driver.volumes.names())
        rows = [_judged(_row(entry.name, entry.size_bytes),
                        entry.reason_not_safe, _known_id(entry.name, known))
                | {'source_reference': {_KEY: entry.volume}}
                for entry in found]
        return _page(rows, marker, limit, offset, sort_keys, sort_dirs)


def _get_name(existing_ref: Any) -> str:
    name = (existing_ref.get(_KEY) if isinstance(existing_ref, Mapping)
            else existing_ref)
    if not name or not isinstance(name, str):
        raise cinder_exception.ManageExistingInvalidReference(
            existing_ref=existing_ref,
            reason=f'It must have the element "{_KEY}", with a name in the '
                   'pool.')
    return name


def _known_id(name: str, known: set[str]) -> str | None:
    found = volume_utils.extract_id_from_snapshot_name(name)
    return found if found in known else None


def _row(name: str, size_bytes: int) -> Row:
    return {
        'reference': {_KEY: name},
        'size': model.gib_for(size_bytes),
        'cinder_id': None,
        'extra_info': None,
        'safe_to_manage': True,
        'reason_not_safe': None,
    }


def _judged(row: Row, reason_not_safe: str | None, cinder_id: str | None
            ) -> Row:
    reason = 'already managed' if cinder_id else reason_not_safe
    return row | {'cinder_id': cinder_id, 'safe_to_manage': not reason,
                  'reason_not_safe': reason}


def _page(rows: list[Row], marker: Any, limit: int, offset: int,
          sort_keys: Sequence[str], sort_dirs: Sequence[str]) -> list[Row]:
    page: list[Row] = volume_utils.paginate_entries_list(
        rows, marker, limit, offset, sort_keys, sort_dirs)
    return page
