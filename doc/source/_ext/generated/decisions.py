# SPDX-License-Identifier: Apache-2.0
"""The decision tables, made by asking plan.py itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from volume_rbd import exception, model, plan

FSID = 'a'
Reason = plan.Reason


@dataclasses.dataclass(frozen=True)
class Row:
    """:param when: what a person can check.
    :param ask: plans with facts where only that holds."""

    when: str
    reason: Reason
    ask: Callable[[], plan.Plan]


# -- create -------------------------------------------------------------------
_IMAGE = model.GlanceImage(
    id='i', name='i', status='active', disk_format='raw',
    container_format='bare', size_bytes=model.GIB)
_GOOD = plan.LocationFacts(
    'rbd://a/images/i/snap', model.RBDLocation(FSID, 'images', 'i', 'snap'),
    size_bytes=model.GIB)


def _create(reason: Reason, when: str, *, image: model.GlanceImage = _IMAGE,
            places: tuple[plan.LocationFacts, ...] = (_GOOD,),
            wanted: bool = False, depth: int = 5,
            base: plan.BaseFacts | None = None,
            encrypt: bool = False) -> Row:
    facts = plan.CreateFacts(image=image, locations=places,
                             flatten_wanted=wanted, max_clone_depth=depth,
                             may_leave_base=base is not None, base=base,
                             encryption_wanted=encrypt)
    return Row(when, reason, lambda: plan.plan_create(facts))


def _image(**changes: object) -> model.GlanceImage:
    return dataclasses.replace(_IMAGE, **changes)  # type: ignore[arg-type]


def _bad(reason: Reason, when: str) -> Row:
    place = dataclasses.replace(_GOOD, problem=reason)
    return _create(reason, when, places=(place,))


def create_rows() -> Iterator[Row]:
    yield _create(Reason.NOT_BARE, 'container_format is not ``bare``',
                  image=_image(container_format='ova'))
    yield _create(Reason.ENCRYPTION_WANTED,
                  'the volume is to be encrypted, the image is not, and its '
                  'disk_format is raw or one that can be read', encrypt=True)
    yield _create(Reason.BASE_CACHED, 'disk_format is one that can be read, '
                  'and ``image_base_cache`` has its base',
                  image=_image(disk_format='qcow2'), base=plan.BaseFacts(
                      model.SnapSpec('volumes', 'b', 'base'), model.GIB))
    yield _create(Reason.NOT_RAW, 'disk_format is one that can be read '
                  '(qcow2, vmdk, vhd, vhdx, vdi, iso, ploop)',
                  image=_image(disk_format='qcow2'))
    yield _create(Reason.NOT_RAW, 'disk_format is another',
                  image=_image(disk_format='luks'))
    yield _create(Reason.ENCRYPTED_IMAGE, 'it is encrypted',
                  image=_image(properties={'cinder_encryption_key_id': 'k'}))
    yield _create(Reason.NO_LOCATION, 'Glance shows no location', places=())
    yield _bad(Reason.NOT_RBD, 'its locations are all outside of RBD')
    yield _bad(Reason.MALFORMED_LOCATION, 'the location does not parse')
    yield _bad(Reason.OTHER_CLUSTER, "the location's fsid is another")
    yield _bad(Reason.STORES_FORBIDDEN,
               'Glance does not tell the pools of its stores: 403')
    yield _bad(Reason.STORES_NOT_CONFIGURED, 'the same: 404')
    yield _bad(Reason.STORES_BROKEN, 'the same: 5xx')
    yield _bad(Reason.FOREIGN_LOCATION,
               "the pool is none of Glance's stores', or the name is not the "
               "glance_image's id")
    yield _bad(Reason.MISSING_SNAPSHOT, 'the snapshot is not there')
    yield _bad(Reason.SNAPSHOT_DENIED, 'our cephx user may not read it')
    yield _bad(Reason.SNAPSHOT_UNREADABLE, 'it cannot be opened')
    yield _create(
        Reason.EMPTY_IMAGE, 'its snapshot has 0 bytes',
        places=(dataclasses.replace(_GOOD, size_bytes=0),))
    yield _create(Reason.INDEPENDENCE_WANTED,
                  '``rbd_flatten_volume_from_snapshot`` is on', wanted=True)
    yield _create(Reason.DEPTH_REACHED,
                  'the chain would be longer than ``rbd_max_clone_depth``',
                  depth=0)
    yield _create(Reason.SAME_CLUSTER, 'none of these')


# -- upload -------------------------------------------------------------------
_STORE = model.StoreInfo('rbd', 'rbd', is_default=True, pool='images',
                         fsid=FSID)
_VOLUME = plan.UploadFacts(size_bytes=model.GIB, fsid=FSID,
                           clone_enabled=True, stores=(_STORE,))


def _upload(reason: Reason, when: str, **changes: object) -> Row:
    facts = dataclasses.replace(
        _VOLUME, **changes)  # type: ignore[arg-type]
    return Row(when, reason, lambda: plan.plan_upload(facts))


def _store(reason: Reason, when: str, **changes: object) -> Row:
    store = dataclasses.replace(
        _STORE, **changes)  # type: ignore[arg-type]
    return _upload(reason, when, stores=(store,))


def upload_rows() -> Iterator[Row]:
    yield _upload(Reason.NOT_BARE,
                  'the wanted container_format is not ``bare``',
                  container_format='ova')
    yield _upload(Reason.DECRYPTION_WANTED,
                  'the image is to be the disk inside of an encrypted volume, '
                  'raw or in a disk_format that can be written',
                  is_encrypted=True, decryption_wanted=True)
    yield _upload(Reason.NOT_RAW,
                  'the wanted disk_format is one that can be written '
                  '(qcow2, vmdk, vhd, vhdx, vdi, ploop)',
                  disk_format='qcow2')
    yield _upload(Reason.NOT_RAW, 'it is another', disk_format='iso')
    yield _upload(Reason.CLONE_DISABLED,
                  '``enable_clone_optimization`` is off',
                  clone_enabled=False)
    yield _upload(Reason.EMPTY_VOLUME, 'the volume has 0 bytes',
                  size_bytes=0)
    yield _upload(Reason.STORES_FORBIDDEN,
                  'Glance does not tell its stores: 403', stores=None,
                  stores_problem=Reason.STORES_FORBIDDEN)
    yield _upload(Reason.STORES_NOT_CONFIGURED, 'the same: 404', stores=None,
                  stores_problem=Reason.STORES_NOT_CONFIGURED)
    yield _upload(Reason.STORES_BROKEN, 'the same: 5xx', stores=None,
                  stores_problem=Reason.STORES_BROKEN)
    yield _store(Reason.NO_DEFAULT_STORE,
                 'no store was asked for and none is the default',
                 is_default=False)
    yield _store(Reason.STORE_NOT_RBD, "the store's type is not ``rbd``",
                 type='file', pool=None)
    yield _store(Reason.STORE_FSID_UNKNOWN, "the store's fsid is null",
                 fsid=None)
    yield _store(Reason.STORE_OTHER_CLUSTER, "the store's fsid is another",
                 fsid='b')
    yield _upload(Reason.ENCRYPTED_VOLUME, 'the volume is encrypted',
                  is_encrypted=True)
    yield _upload(
        Reason.DEPTH_REACHED,
        'the chain would be longer than ``rbd_max_clone_depth``, and '
        '``clone_upload_flatten`` is not ``before_register``',
        max_clone_depth=0)
    yield _upload(Reason.SAME_CLUSTER, 'none of these')


# -- fetch --------------------------------------------------------------------
def _fetch(reason: Reason, when: str, **changes: object) -> Row:
    facts = dataclasses.replace(plan.FetchFacts(
        _IMAGE, (_GOOD,)), **changes)  # type: ignore[arg-type]
    return Row(when, reason, lambda: plan.plan_fetch(facts))


def fetch_rows() -> Iterator[Row]:
    yield _fetch(Reason.DIRECT_DISABLED,
                 '``allowed_direct_url_schemes`` does not have ``rbd``',
                 obstacle=Reason.DIRECT_DISABLED)
    yield _fetch(Reason.CLUSTER_UNAVAILABLE,
                 'the monitors do not answer in ``rbd_connect_timeout``',
                 obstacle=Reason.CLUSTER_UNAVAILABLE)
    yield _fetch(Reason.SNAPSHOT_READABLE,
                 'one of the locations can be read')
    yield _fetch(Reason.NO_LOCATION, 'Glance shows no location', locations=())
    for reason, when in (
            (Reason.NOT_RBD, 'they are all outside of RBD'),
            (Reason.OTHER_CLUSTER, "the location's fsid is another"),
            (Reason.FOREIGN_LOCATION, "its pool is none of Glance's RBD "
             'stores, or its name is not the id of the image'),
            (Reason.MISSING_SNAPSHOT, 'its snapshot is not there'),
            (Reason.SNAPSHOT_DENIED, 'the cephx user may not read it')):
        yield _fetch(reason, when, locations=(
            dataclasses.replace(_GOOD, problem=reason),))


# -- found out only by trying -------------------------------------------------
BY_TRYING = {
    Reason.MISSING_SNAPSHOT:
        'create: the snapshot went between the plan and the clone or the copy',
    Reason.SNAPSHOT_DENIED:
        'create: EPERM where the snapshot was opened to be copied or verified',
    Reason.CLONE_FAILED:
        'both: librbd would not clone, in no format; create: also EPERM',
    Reason.CLONE_DENIED:
        "upload, by clone or copy: EPERM on the pool of Glance's store",
    Reason.COPY_FAILED:
        'both, by copy: librbd would not make, read or write it',
    Reason.EXPORT_FAILED:
        'fetch: librbd would not read the snapshot to its end',
    Reason.ALREADY_FETCHED:
        'fetch: the file is there, and is this image',
    Reason.LOCATION_API_MISSING:
        'upload: Glance is older than 2.17',
    Reason.LOCATION_FORBIDDEN:
        'upload: POST of the location answered 403',
    Reason.LOCATION_REFUSED:
        'upload: POST of the location answered 400',
    Reason.LOCATION_TASK_FAILED:
        'upload: 202, then the task failed and the glance_image is queued '
        'again',
}
_BESIDES = frozenset({Reason.NOT_IN_THIS_RELEASE})


def reasons_in_tables() -> frozenset[Reason]:
    rows = [*create_rows(), *upload_rows(), *fetch_rows()]
    return frozenset(row.reason for row in rows) | set(BY_TRYING) | _BESIDES


def link(reason: Reason) -> str:
    return f':ref:`{reason.value} <reason-{reason.value}>`'


def table(headers: list[str], widths: str, rows: list[list[str]]) -> str:
    """A list-table as text."""
    lines = ['.. list-table::', '   :header-rows: 1', '   :align: left',
             f'   :widths: {widths}', '']
    for row in [headers, *rows]:
        for place, cell in enumerate(row):
            lines.append(f'   {"*" if place == 0 else " "} - {cell}')
    return '\n'.join(lines)


def _ways(decided: plan.Plan) -> str:
    return ', then '.join(f'``{choice.strategy.value}``'
                          for choice in decided.choices)


class DecisionTable(SphinxDirective):
    """``.. decision-table:: create``, ``upload`` or ``fetch``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(plan.__file__)
        rows = list({'create': create_rows, 'upload': upload_rows,
                     'fetch': fetch_rows}[self.arguments[0]]())
        lines = []
        for row in rows:
            try:
                decided = row.ask()
            except exception.NotSupported as error:
                if plan.SENTENCES[row.reason][:-1] not in error.message:
                    raise self.error(f'{row.when}: {error}') from error
                lines.append([row.when, link(row.reason),
                              plan.SENTENCES[row.reason], 'refused'])
                continue
            except exception.VolumeRBDError as error:
                raise self.error(f'{row.when}: {error}') from error
            if decided.reason is not row.reason:
                raise self.error(
                    f'plan.py says {decided.reason} where "{row.when}", and '
                    f'the table {row.reason}: correct _ext/decisions.py')
            lines.append([row.when, link(row.reason),
                          plan.SENTENCES[row.reason],
                          _ways(decided)])
        return self.parse_text_to_nodes(table(
            ['Where', 'reason', 'what a person reads', 'ways, in order'],
            '28 22 34 16', lines))


class ReasonsByTrying(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(plan.__file__)
        missing = frozenset(Reason) - reasons_in_tables()
        if missing:
            raise self.error('In no table: ' + ', '.join(sorted(missing)))
        return self.parse_text_to_nodes(table(
            ['Where', 'reason', 'what a person reads'], '32 22 46',
            [[when, link(reason), plan.SENTENCES[reason]]
             for reason, when in BY_TRYING.items()]))


def register(app: Sphinx) -> None:
    app.add_directive('decision-table', DecisionTable)
    app.add_directive('reasons-by-trying', ReasonsByTrying)
