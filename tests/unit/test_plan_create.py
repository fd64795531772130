# SPDX-License-Identifier: Apache-2.0
"""The decision table of create_from_image, row by row."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.unit.plan_facts import (
    BASE,
    FSID,
    GIB,
    IMAGE_ID,
    OTHER_FSID,
    WITHOUT_COPY,
    create_facts,
    place,
    url,
)
from volume_rbd import exception, model, plan
from volume_rbd.plan import Reason, Strategy

ENCRYPTED = {'cinder_encryption_key_id': 'k'}
NOWHERE = plan.LocationFacts('http://example.org/x', problem=Reason.NOT_RBD)
BROKEN = plan.LocationFacts('rbd://x', problem=Reason.MALFORMED_LOCATION)


def test_an_image_in_the_same_cluster_is_cloned() -> None:
    decided = plan.plan_create(create_facts())
    assert decided.strategy is Strategy.CLONE
    assert decided.reason is Reason.SAME_CLUSTER
    assert decided.source == model.SnapSpec('images', IMAGE_ID, 'snap')
    assert decided.ruled_out == ()
    assert decided.size_bytes == GIB
    assert decided.operation is plan.Operation.CREATE_FROM_IMAGE


def test_a_clone_that_cannot_be_made_is_followed_by_a_copy_and_a_download(
        ) -> None:
    assert plan.plan_create(create_facts()).choices[1:] == tuple(
        plan.Choice(way, Reason.CLONE_FAILED)
        for way in (Strategy.COPY, Strategy.DOWNLOAD))


#: Every row: the one thing that is different, and the reason it gives.
DOWNLOADED: list[tuple[dict[str, Any], Reason]] = [
    ({'image_properties': ENCRYPTED, 'locations': (place(
        problem=Reason.SNAPSHOT_DENIED),)}, Reason.ENCRYPTED_IMAGE),
    ({'locations': ()}, Reason.NO_LOCATION),
    ({'locations': (NOWHERE,)}, Reason.NOT_RBD),
    ({'locations': (BROKEN,)}, Reason.MALFORMED_LOCATION),
    *(({'locations': (place(problem=problem),)}, problem) for problem in (
        Reason.OTHER_CLUSTER, Reason.FOREIGN_LOCATION,
        Reason.MISSING_SNAPSHOT, Reason.SNAPSHOT_DENIED,
        Reason.SNAPSHOT_UNREADABLE, Reason.STORES_FORBIDDEN,
        Reason.STORES_NOT_CONFIGURED, Reason.STORES_BROKEN)),
]


@pytest.mark.parametrize(('change', 'reason'), DOWNLOADED,
                         ids=[reason.value for _, reason in DOWNLOADED])
def test_an_image_that_cannot_be_read_here_is_downloaded(
        change: dict[str, Any], reason: Reason) -> None:
    decided = plan.plan_create(create_facts(**change))
    assert [choice.strategy for choice in decided.choices] == [
        Strategy.DOWNLOAD]
    assert decided.reason is reason
    assert plan.SENTENCES[reason] in decided.sentence
    assert decided.ruled_out == (plan.Choice(Strategy.CLONE, reason),)
    assert decided.source is None


#: What can be read and not cloned.
COPIED: list[tuple[dict[str, Any], Reason]] = [
    ({'flatten_wanted': True}, Reason.INDEPENDENCE_WANTED),
    ({'max_clone_depth': 0}, Reason.DEPTH_REACHED),
    ({'max_clone_depth': 5, 'locations': (place(depth=5),)},
     Reason.DEPTH_REACHED),
    ({'image_properties': ENCRYPTED}, Reason.ENCRYPTED_IMAGE),
    ({'locations': (place(size_bytes=0),)}, Reason.EMPTY_IMAGE),
]


@pytest.mark.parametrize(('change', 'reason'), COPIED)
def test_an_image_that_can_be_read_here_is_copied_before_it_is_downloaded(
        change: dict[str, Any], reason: Reason) -> None:
    decided = plan.plan_create(create_facts(**change))
    assert decided.choices == (plan.Choice(Strategy.COPY, reason),
                               plan.Choice(Strategy.DOWNLOAD, reason))
    assert decided.ruled_out == (plan.Choice(Strategy.CLONE, reason),)
    assert decided.source == HERE


def test_of_two_readable_locations_the_shallower_one_is_copied() -> None:
    decided = plan.plan_create(create_facts(flatten_wanted=True, locations=(
        place(pool='deep', depth=3), place(pool='flat', depth=1))))
    assert decided.source is not None
    assert decided.source.pool == 'flat'


@pytest.mark.parametrize(('change', 'reason'), COPIED)
def test_a_way_that_a_release_does_not_have_is_ruled_out(
        change: dict[str, Any], reason: Reason) -> None:
    decided = plan.plan_create(create_facts(built=WITHOUT_COPY, **change))
    assert [choice.strategy for choice in decided.choices] == [
        Strategy.DOWNLOAD]
    assert decided.ruled_out == (
        plan.Choice(Strategy.CLONE, reason),
        plan.Choice(Strategy.COPY, Reason.NOT_IN_THIS_RELEASE))


CONVERTED = ['qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso', 'ploop']
HERE = model.SnapSpec('images', IMAGE_ID, 'snap')


@pytest.mark.parametrize('disk_format', CONVERTED)
def test_a_disk_in_a_format_is_converted_straight_from_its_pool(
        disk_format: str) -> None:
    decided = plan.plan_create(create_facts(image_disk_format=disk_format))
    detail = f'disk_format {disk_format}'
    assert decided.choices == (
        plan.Choice(Strategy.CONVERT, Reason.NOT_RAW, detail),)
    assert decided.ruled_out == (
        plan.Choice(Strategy.CLONE, Reason.NOT_RAW, detail),)
    assert decided.source == HERE
    assert decided.sentence.endswith(f' ({detail}).')


@pytest.mark.parametrize('places', [
    (), (NOWHERE,), (BROKEN,), (place(size_bytes=1025),),
    *((place(problem=problem),) for problem in (
        Reason.OTHER_CLUSTER, Reason.FOREIGN_LOCATION,
        Reason.MISSING_SNAPSHOT, Reason.SNAPSHOT_DENIED))])
def test_a_disk_in_a_format_elsewhere_comes_through_glance(
        places: tuple[plan.LocationFacts, ...]) -> None:
    decided = plan.plan_create(create_facts(image_disk_format='qcow2',
                                            locations=places))
    assert decided.strategy is Strategy.CONVERT
    assert decided.source is None


@pytest.mark.parametrize('change', [
    {'max_clone_depth': 0}, {'flatten_wanted': True},
    {'locations': (place(depth=9),)}])
def test_policy_about_clones_does_not_matter_for_a_conversion(
        change: dict[str, Any]) -> None:
    decided = plan.plan_create(create_facts(image_disk_format='qcow2',
                                            **change))
    assert decided.source == HERE


#: What nothing of ours can make a disk of.
REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    ({'image_disk_format': None}, Reason.NOT_RAW, 'disk_format None'),
    ({'image_disk_format': 'luks'}, Reason.NOT_RAW, 'disk_format luks'),
    ({'image_disk_format': 'ami'}, Reason.NOT_RAW, 'disk_format ami'),
    ({'image_disk_format': 'QCOW2'}, Reason.NOT_RAW, 'disk_format QCOW2'),
    ({'image_disk_format': 'qcow2', 'image_properties': ENCRYPTED},
     Reason.NOT_RAW, 'disk_format qcow2'),
    ({'image_container_format': 'ova'}, Reason.NOT_BARE,
     'container_format ova'),
    ({'image_container_format': None}, Reason.NOT_BARE,
     'container_format None'),
]


@pytest.mark.parametrize('built', [plan.BUILT, WITHOUT_COPY])
@pytest.mark.parametrize(('change', 'reason', 'detail'), REFUSED)
def test_what_nothing_can_convert_is_refused_with_the_way_out(
        change: dict[str, Any], reason: Reason, detail: str,
        built: frozenset[Strategy]) -> None:
    with pytest.raises(exception.NotSupported) as caught:
        plan.plan_create(create_facts(built=built, **change))
    assert plan.SENTENCES[reason][:-1] in caught.value.message
    assert detail in caught.value.message
    assert 'qemu-img convert' in caught.value.remedy


# -- encrypted ----------------------------------------------------------------

@pytest.mark.parametrize('disk_format', ['raw', *CONVERTED])
@pytest.mark.parametrize('change', [
    {}, {'max_clone_depth': 0}, {'flatten_wanted': True},
    {'may_leave_base': True}, {'may_leave_base': True, 'base': BASE}])
def test_a_disk_is_encrypted_on_its_way_and_never_shared(
        disk_format: str, change: dict[str, Any]) -> None:
    decided = plan.plan_create(create_facts(
        encryption_wanted=True, image_disk_format=disk_format, **change))
    assert decided.choices == (
        plan.Choice(Strategy.CONVERT, Reason.ENCRYPTION_WANTED),)
    assert decided.ruled_out == (
        plan.Choice(Strategy.CLONE, Reason.ENCRYPTION_WANTED),)
    assert decided.source == HERE
    assert not decided.leaves_base
    assert decided.size_bytes == GIB  # beside the header


@pytest.mark.parametrize('places', [
    (), (NOWHERE,), (place(size_bytes=1025),),
    (place(problem=Reason.FOREIGN_LOCATION),)])
def test_a_raw_disk_elsewhere_is_staged_to_be_encrypted(
        places: tuple[plan.LocationFacts, ...]) -> None:
    decided = plan.plan_create(create_facts(encryption_wanted=True,
                                            locations=places))
    assert decided.strategy is Strategy.CONVERT
    assert decided.source is None


def test_a_raw_disk_is_encrypted_where_conversions_are_forbidden() -> None:
    """As in Cinder: its format stays."""
    facts = create_facts(encryption_wanted=True, may_convert=False)
    assert plan.plan_create(facts).strategy is Strategy.CONVERT
    with pytest.raises(exception.NotSupported,
                       match='image_conversion_disable'):
        plan.plan_create(create_facts(
            encryption_wanted=True, may_convert=False,
            image_disk_format='qcow2'))


@pytest.mark.parametrize(('asked', 'image_bytes', 'got'), [
    (None, GIB + 4096, GIB + 4096), (GIB, GIB + 4096, GIB + 4096),
    (3 * GIB, GIB + 4096, 3 * GIB + 4096), (None, 4096, GIB + 4096)])
def test_an_encrypted_image_brings_its_header_along(
        asked: int | None, image_bytes: int, got: int) -> None:
    decided = plan.plan_create(create_facts(
        encryption_wanted=True, image_properties=ENCRYPTED,
        size_bytes=asked, image_size_bytes=image_bytes,
        locations=(place(size_bytes=image_bytes),), max_volume_bytes=3 * GIB))
    assert decided.choices[-1].strategy is Strategy.DOWNLOAD
    assert decided.reason is Reason.ENCRYPTED_IMAGE
    assert decided.size_bytes == got


def test_an_encrypted_image_does_not_fit_into_less() -> None:
    with pytest.raises(exception.InvalidSize, match='needs 2 GiB'):
        plan.plan_create(create_facts(
            encryption_wanted=True, image_properties=ENCRYPTED,
            size_bytes=GIB, image_size_bytes=2 * GIB + 4096))


def test_a_conversion_is_refused_where_the_operator_forbids_it() -> None:
    with pytest.raises(exception.NotSupported,
                       match='image_conversion_disable'):
        plan.plan_create(create_facts(image_disk_format='qcow2',
                                      may_convert=False))
    assert plan.plan_create(create_facts(
        may_convert=False)).strategy is Strategy.CLONE


@pytest.mark.parametrize(('changes', 'gib', 'is_fixed'), [
    # the file may be larger than the disk inside
    ({'image_size_bytes': 3 * GIB, 'image_virtual_size_bytes': GIB}, 1,
     False),
    ({'image_size_bytes': 3 * GIB, 'locations': (
        place(size_bytes=3 * GIB),)}, 1, False),
    ({'image_virtual_size_bytes': 5 * GIB}, 5, False),
    ({'image_min_disk_gib': 7}, 7, False),
    ({'size_bytes': 9 * GIB}, 9, True),
])
def test_a_converted_volume_has_the_size_of_the_disk_inside(
        changes: dict[str, Any], gib: int, is_fixed: bool) -> None:
    decided = plan.plan_create(create_facts(image_disk_format='qcow2',
                                            **changes))
    assert decided.size_bytes == gib * GIB
    assert decided.is_size_fixed is is_fixed


def test_an_iso_is_as_large_as_its_file() -> None:
    decided = plan.plan_create(create_facts(
        image_disk_format='iso', image_size_bytes=3 * GIB))
    assert decided.size_bytes == 3 * GIB


# -- what comes first ---------------------------------------------------------

#: Each obstacle, the one that is told first being first.
OBSTACLES: list[tuple[Reason, dict[str, Any]]] = [
    (Reason.ENCRYPTED_IMAGE, {'image_properties': ENCRYPTED}),
    (Reason.NO_LOCATION, {'locations': ()}),
    (Reason.EMPTY_IMAGE, {'locations': (place(size_bytes=0, depth=5),)}),
    (Reason.INDEPENDENCE_WANTED, {'flatten_wanted': True}),
    (Reason.DEPTH_REACHED, {'locations': (place(depth=5),)}),
]


@pytest.mark.parametrize('first', range(len(OBSTACLES)),
                         ids=[reason.value for reason, _ in OBSTACLES])
def test_of_several_obstacles_the_most_basic_is_told(first: int) -> None:
    changes: dict[str, Any] = {}
    for _, change in reversed(OBSTACLES[first:]):
        changes.update(change)
    decided = plan.plan_create(create_facts(**changes))
    assert decided.reason is OBSTACLES[first][0]


@pytest.mark.parametrize(('change', 'reason'), [
    ({'image_disk_format': 'qcow2', 'image_container_format': 'ova'},
     Reason.NOT_BARE),
    ({'image_disk_format': 'luks', 'image_properties': ENCRYPTED},
     Reason.NOT_RAW)])
def test_of_several_reasons_to_refuse_the_most_basic_is_told(
        change: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(exception.NotSupported) as caught:
        plan.plan_create(create_facts(**change))
    assert plan.SENTENCES[reason][:-1] in caught.value.message


def test_a_good_location_is_found_behind_bad_ones() -> None:
    decided = plan.plan_create(create_facts(locations=(
        NOWHERE, BROKEN, place(problem=Reason.FOREIGN_LOCATION),
        place(pool='images2'))))
    assert decided.source == model.SnapSpec('images2', IMAGE_ID, 'snap')


def test_of_two_good_locations_the_shallower_one_is_cloned() -> None:
    decided = plan.plan_create(create_facts(locations=(
        place(pool='deep', depth=3), place(pool='flat', depth=1))))
    assert decided.source is not None
    assert decided.source.pool == 'flat'


def test_of_two_equal_locations_the_first_one_is_cloned() -> None:
    decided = plan.plan_create(create_facts(locations=(
        place(pool='one'), place(pool='two'))))
    assert decided.source is not None
    assert decided.source.pool == 'one'


def test_a_problem_in_rbd_says_more_than_a_location_elsewhere() -> None:
    decided = plan.plan_create(create_facts(locations=(
        NOWHERE, place(problem=Reason.SNAPSHOT_DENIED))))
    assert decided.reason is Reason.SNAPSHOT_DENIED


@pytest.mark.parametrize(('depth', 'limit', 'is_cloned'), [
    (0, 0, False), (0, 1, True), (1, 1, False), (4, 5, True), (5, 5, False),
    (9, 5, False)])
def test_a_clone_is_one_deeper_than_its_image(depth: int, limit: int,
                                              is_cloned: bool) -> None:
    decided = plan.plan_create(create_facts(
        max_clone_depth=limit, locations=(place(depth=depth),)))
    assert (decided.strategy is Strategy.CLONE) is is_cloned


# -- no way can help ----------------------------------------------------------

@pytest.mark.parametrize('status', [
    'queued', 'saving', 'importing', 'uploading', 'deactivated', 'killed',
    'deleted', 'pending_delete', '', 'ACTIVE'])
def test_an_image_that_is_not_active_is_refused(status: str) -> None:
    with pytest.raises(exception.GlanceImageNotUsable, match=IMAGE_ID):
        plan.plan_create(create_facts(image_status=status))


def test_that_the_image_is_not_active_is_told_before_its_format() -> None:
    with pytest.raises(exception.GlanceImageNotUsable):
        plan.plan_create(create_facts(
            image_status='queued', image_disk_format='qcow2',
            size_bytes=1, max_volume_bytes=0))


def test_a_volume_smaller_than_the_image_is_refused() -> None:
    with pytest.raises(exception.InvalidSize) as caught:
        plan.plan_create(create_facts(size_bytes=GIB,
                                      image_size_bytes=GIB + 1))
    assert '2 GiB' in caught.value.remedy


def test_a_volume_smaller_than_the_disk_inside_is_refused() -> None:
    with pytest.raises(exception.InvalidSize, match='needs 5 GiB'):
        plan.plan_create(create_facts(size_bytes=4 * GIB,
                                      image_virtual_size_bytes=5 * GIB))


def test_a_volume_smaller_than_the_snapshot_is_refused() -> None:
    """An image registered by location has the snapshot's size whatever its
    record says."""
    with pytest.raises(exception.InvalidSize, match='needs 3 GiB'):
        plan.plan_create(create_facts(
            size_bytes=2 * GIB, locations=(place(size_bytes=3 * GIB),)))


def test_the_size_of_a_location_that_is_not_trusted_does_not_count() -> None:
    decided = plan.plan_create(create_facts(
        size_bytes=GIB, locations=(place(
            size_bytes=9 * GIB, problem=Reason.FOREIGN_LOCATION),)))
    assert decided.size_bytes == GIB


def test_a_volume_smaller_than_min_disk_is_refused() -> None:
    with pytest.raises(exception.InvalidSize, match='needs 20 GiB'):
        plan.plan_create(create_facts(size_bytes=19 * GIB,
                                      image_min_disk_gib=20))


@pytest.mark.parametrize(('changes', 'gib'), [
    ({'image_size_bytes': GIB}, 1),
    ({'image_size_bytes': GIB + 1}, 2),
    ({'image_size_bytes': 0, 'locations': ()}, 1),
    ({'image_size_bytes': None, 'locations': ()}, 1),
    ({'image_min_disk_gib': 7}, 7),
    ({'image_virtual_size_bytes': 3 * GIB}, 3),
    ({'locations': (place(size_bytes=4 * GIB),)}, 4),
])
def test_a_volume_without_a_size_gets_what_the_image_needs(
        changes: dict[str, Any], gib: int) -> None:
    decided = plan.plan_create(create_facts(size_bytes=None, **changes))
    assert decided.size_bytes == gib * GIB


def test_a_larger_volume_is_made_as_large_as_asked() -> None:
    assert plan.plan_create(
        create_facts(size_bytes=9 * GIB)).size_bytes == 9 * GIB


@pytest.mark.parametrize('size', [0, -GIB])
def test_a_size_that_is_not_positive_is_refused_not_defaulted(size: int
                                                              ) -> None:
    with pytest.raises(exception.InvalidSize):
        plan.plan_create(create_facts(size_bytes=size))


def test_a_volume_over_the_quota_is_refused() -> None:
    facts = create_facts(size_bytes=3 * GIB, max_volume_bytes=2 * GIB)
    with pytest.raises(exception.QuotaExceeded) as caught:
        plan.plan_create(facts)
    assert 'per_volume_gigabytes' in str(caught.value)


def test_a_volume_just_within_the_quota_is_made() -> None:
    decided = plan.plan_create(create_facts(size_bytes=2 * GIB,
                                            max_volume_bytes=2 * GIB))
    assert decided.size_bytes == 2 * GIB


def test_an_image_that_needs_more_than_the_quota_is_refused() -> None:
    with pytest.raises(exception.QuotaExceeded):
        plan.plan_create(create_facts(image_min_disk_gib=3,
                                      max_volume_bytes=2 * GIB))


def test_too_small_is_told_before_over_the_quota() -> None:
    with pytest.raises(exception.InvalidSize):
        plan.plan_create(create_facts(size_bytes=GIB, image_min_disk_gib=3,
                                      max_volume_bytes=0))


# -- whom to trust ------------------------------------------------------------

STORES = (model.StoreInfo('rbd1', 'rbd', pool='images', fsid=FSID),
          model.StoreInfo('rbd2', 'rbd', pool='ssd images', fsid=None),
          model.StoreInfo('far', 'rbd', pool='far', fsid=OTHER_FSID),
          model.StoreInfo('file', 'file', pool='files', fsid=FSID))


def _judge(text: str, pools: tuple[str, ...] = ()) -> plan.LocationFacts:
    return plan.judge_location(text, IMAGE_ID, FSID, STORES, pools)


@pytest.mark.parametrize('text', [
    url(), url(pool='ssd images'), url(snapshot='other'),
    url(snapshot='snap?x=1#y'),
    f'rbd://{FSID}/%69mages/{IMAGE_ID}/snap',
])
def test_a_location_in_a_stores_pool_named_after_the_image_is_trusted(
        text: str) -> None:
    judged = _judge(text)
    assert judged.problem is None
    assert judged.location == model.RBDLocation.from_url(text)


def test_a_configured_pool_is_trusted_where_glance_tells_nothing() -> None:
    judged = plan.judge_location(url(), IMAGE_ID, FSID, (), ('images',))
    assert judged.problem is None


def test_nothing_is_trusted_where_nobody_tells_the_pools() -> None:
    judged = plan.judge_location(url(), IMAGE_ID, FSID, ())
    assert judged.problem is Reason.FOREIGN_LOCATION


@pytest.mark.parametrize(('text', 'problem'), [
    # another cluster, even with the right pool and name
    (url(fsid=OTHER_FSID), Reason.OTHER_CLUSTER),
    (url(fsid=FSID.upper() + 'x'), Reason.OTHER_CLUSTER),
    (url(fsid='*'), Reason.OTHER_CLUSTER),
    # another pool
    (url(pool='volumes'), Reason.FOREIGN_LOCATION),
    (url(pool='Images'), Reason.FOREIGN_LOCATION),
    (url(pool='images '), Reason.FOREIGN_LOCATION),
    (url(pool='ssd%20images'), Reason.FOREIGN_LOCATION),
    # a pool of a store that is not RBD, or of another cluster
    (url(pool='files'), Reason.FOREIGN_LOCATION),
    (url(pool='far'), Reason.FOREIGN_LOCATION),
    # not named after the image
    (url(image='volume-of-somebody-else'), Reason.FOREIGN_LOCATION),
    (url(image=IMAGE_ID.upper()), Reason.FOREIGN_LOCATION),
    (url(image=IMAGE_ID + '\u200b'), Reason.FOREIGN_LOCATION),
    (url(image=IMAGE_ID.replace('8', '８')), Reason.FOREIGN_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}%20/snap', Reason.FOREIGN_LOCATION),
    (f'rbd://{FSID}/images?x/{IMAGE_ID}/snap', Reason.FOREIGN_LOCATION),
    # a namespace cannot be expressed, five parts try
    (f'rbd://{FSID}/images/ns/{IMAGE_ID}/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}', Reason.MALFORMED_LOCATION),
    # an encoded separator names something else once parts are joined
    (f'rbd://{FSID}/images%2Fns/{IMAGE_ID}/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}%2Fx/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}@x/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}/snap%40x', Reason.MALFORMED_LOCATION),
    # empty parts
    (f'rbd:///images/{IMAGE_ID}/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}//{IMAGE_ID}/snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images//snap', Reason.MALFORMED_LOCATION),
    (f'rbd://{FSID}/images/{IMAGE_ID}/', Reason.MALFORMED_LOCATION),
    # another scheme
    (f'RBD://{FSID}/images/{IMAGE_ID}/snap', Reason.NOT_RBD),
    (f' rbd://{FSID}/images/{IMAGE_ID}/snap', Reason.NOT_RBD),
    ('file:///var/lib/glance/images/x', Reason.NOT_RBD),
    ('swift+https://example.org/c/o', Reason.NOT_RBD),
    ('cinder://store/volume', Reason.NOT_RBD),
    ('', Reason.NOT_RBD),
])
def test_a_location_that_its_owner_may_have_written_is_not_trusted(
        text: str, problem: Reason) -> None:
    assert _judge(text).problem is problem


def test_a_configured_pool_does_not_make_another_name_trusted() -> None:
    judged = _judge(url(pool='volumes', image='volume-1'), ('volumes',))
    assert judged.problem is Reason.FOREIGN_LOCATION


def test_a_configured_pool_does_not_make_another_cluster_trusted() -> None:
    judged = _judge(url(fsid=OTHER_FSID, pool='volumes'), ('volumes',))
    assert judged.problem is Reason.OTHER_CLUSTER


@pytest.mark.parametrize('fsid', [OTHER_FSID, '', 'x'])
def test_a_stores_pool_counts_only_for_its_own_cluster(fsid: str) -> None:
    stores = (model.StoreInfo('s', 'rbd', pool='images', fsid=fsid),)
    assert plan.judge_location(url(), IMAGE_ID, FSID, stores
                               ).problem is Reason.FOREIGN_LOCATION


# -- the base cache -----------------------------------------------------------

def _with_base(**changes: Any) -> plan.Plan:
    return plan.plan_create(create_facts(**{
        'image_disk_format': 'qcow2', 'may_leave_base': True,
        'base': BASE, **changes}))


def test_a_base_is_cloned() -> None:
    decided = _with_base()
    assert [choice.strategy for choice in decided.choices] == [
        Strategy.CLONE]
    assert decided.reason is Reason.BASE_CACHED
    assert decided.source == BASE.source
    assert not decided.leaves_base


def test_without_a_base_one_is_left() -> None:
    decided = _with_base(base=None)
    assert (decided.strategy, decided.leaves_base) == (
        Strategy.CONVERT, True)


@pytest.mark.parametrize('change', [
    {'may_leave_base': False}, {'flatten_wanted': True},
    {'max_clone_depth': 0}, {'size_bytes': GIB - 1, 'image_size_bytes': 1},
    {'built': plan.BUILT - {Strategy.CLONE}}])
def test_a_base_that_does_not_do_is_passed_over(change: dict[str, Any]
                                                ) -> None:
    decided = _with_base(**change)
    assert (decided.strategy, decided.leaves_base) == (
        Strategy.CONVERT, False)


def test_a_base_over_the_quota_is_refused() -> None:
    with pytest.raises(exception.QuotaExceeded):
        _with_base(size_bytes=None, max_volume_bytes=GIB - 1)


@pytest.mark.parametrize(('file_bytes', 'virtual_bytes', 'most', 'leaves'), [
    (10, None, 10, True), (11, None, 10, False), (11, 10, 10, True),
    (10, GIB, 10, True), (11, GIB, 10, False), (GIB, GIB, None, True)])
def test_a_base_larger_than_the_whole_limit_is_not_made(
        file_bytes: int, virtual_bytes: int | None, most: int | None,
        leaves: bool) -> None:
    decided = _with_base(
        base=None, most_base_bytes=most, image_size_bytes=file_bytes,
        image_virtual_size_bytes=virtual_bytes)
    assert (decided.strategy, decided.leaves_base) == (
        Strategy.CONVERT, leaves)
    assert ('image_base_cache_max_gib' in decided.sentence) != leaves


def test_a_base_that_is_there_is_cloned_whatever_its_size() -> None:
    assert _with_base(most_base_bytes=1).reason is Reason.BASE_CACHED


@pytest.mark.parametrize('is_direct', [True, False])
def test_what_came_through_glance_is_for_who_may_download_it(
        is_direct: bool) -> None:
    decided = _with_base(base=dataclasses.replace(BASE, is_direct=is_direct))
    assert decided.must_be_downloadable != is_direct


# -- a clone or nothing -------------------------------------------------------

def test_by_policy_there_is_no_way_but_a_clone() -> None:
    decided = plan.plan_create(create_facts(must_clone=True))
    assert [choice.strategy for choice in decided.choices] == [Strategy.CLONE]


@pytest.mark.parametrize(('change', 'reason'), DOWNLOADED + COPIED)
def test_by_policy_what_is_no_clone_is_refused_with_its_reason(
        change: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(exception.NotCloneable) as caught:
        plan.plan_create(create_facts(must_clone=True, **change))
    assert caught.value.reason == reason
    assert plan.SENTENCES[reason] in caught.value.message


# -- what qemu can read -------------------------------------------------------

@pytest.mark.parametrize(('change', 'is_direct', 'stages_clone'), [
    ({}, True, False), ({'size_bytes': GIB + 1}, False, False),
    ({'may_write': False}, True, True),
    ({'may_write': False, 'size_bytes': GIB + 1}, False, False)])
def test_a_file_is_converted_where_it_lies_if_qemu_can_open_it(
        change: dict[str, Any], is_direct: bool, stages_clone: bool) -> None:
    where = dataclasses.replace(place(), **change)
    decided = plan.plan_create(create_facts(
        image_disk_format='qcow2', locations=(where,)))
    assert decided.strategy is Strategy.CONVERT
    assert (decided.source is not None) is is_direct
    assert decided.stages_clone is stages_clone
