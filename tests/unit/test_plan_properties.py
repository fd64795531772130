# SPDX-License-Identifier: Apache-2.0
"""What holds for every plan, whatever the facts."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import plan_facts, test_plan_create, test_plan_upload
from tests.unit.plan_facts import FSID, GIB, IMAGE_ID, OTHER_FSID, url
from volume_rbd import exception, model, plan
from volume_rbd.plan import Reason, Strategy

# -- facts of every kind ------------------------------------------------------

stores = st.builds(
    model.StoreInfo, id=st.sampled_from('ab'),
    type=st.sampled_from(['rbd', 'file', 'swift']),
    is_default=st.booleans(), is_read_only=st.booleans(),
    pool=st.sampled_from([None, '', 'images', 'volumes', 'i/j']),
    fsid=st.sampled_from([None, '', FSID, OTHER_FSID]))

urls = st.one_of(
    st.builds(url, fsid=st.sampled_from([FSID, OTHER_FSID, 'x']),
              pool=st.sampled_from(['images', 'volumes', 'ssd', 'i/j']),
              image=st.sampled_from([IMAGE_ID, 'volume-1', 'a@b']),
              snapshot=st.sampled_from(['snap', 'other', 'a/b'])),
    st.text(max_size=30), st.text(max_size=30).map('rbd://'.__add__),
    st.just(url() + '/x'), st.just(url().replace('rbd', 'RBD')))

places = st.one_of(
    # judged, and where nothing speaks against it, opened
    st.builds(
        lambda text, known, size, depth: _opened(plan.judge_location(
            text, IMAGE_ID, FSID, known), size, depth),
        urls, st.lists(stores, max_size=3), st.integers(0, 2 * GIB),
        st.integers(0, 7)),
    st.builds(plan_facts.place, problem=st.sampled_from(Reason),
              size_bytes=st.integers(0, 9 * GIB), depth=st.integers(0, 7)))


def _opened(judged: plan.LocationFacts, size_bytes: int, depth: int
            ) -> plan.LocationFacts:
    if judged.problem is not None:
        return judged
    return plan.LocationFacts(judged.url, judged.location, None, size_bytes,
                              depth)


images = st.builds(
    model.GlanceImage, id=st.just(IMAGE_ID), name=st.none(),
    status=st.sampled_from(['active', 'active', 'active', 'queued', 'x']),
    disk_format=st.sampled_from(['raw', 'raw', 'qcow2', 'iso', 'luks', None]),
    container_format=st.sampled_from(['bare', 'bare', 'ova', None]),
    size_bytes=st.one_of(st.none(), st.integers(0, 3 * GIB)),
    virtual_size_bytes=st.one_of(st.none(), st.integers(0, 3 * GIB)),
    min_disk_gib=st.integers(0, 3),
    properties=st.sampled_from([{}, {}, {'cinder_encryption_key_id': 'k'}]))

built = st.sampled_from([plan.BUILT, plan_facts.WITHOUT_COPY])

creations = st.builds(
    plan.CreateFacts, image=images,
    locations=st.lists(places, max_size=4).map(tuple),
    size_bytes=st.one_of(st.none(), st.integers(-1, 9 * GIB)),
    max_clone_depth=st.integers(0, 6), flatten_wanted=st.booleans(),
    max_volume_bytes=st.one_of(st.none(), st.integers(0, 9 * GIB)),
    may_convert=st.booleans(), encryption_wanted=st.booleans(), built=built)

uploads = st.builds(
    plan.UploadFacts, size_bytes=st.integers(0, 9 * GIB), fsid=st.just(FSID),
    clone_enabled=st.booleans(),
    stores=st.one_of(st.none(), st.lists(stores, max_size=3).map(tuple)),
    stores_problem=st.sampled_from([None, Reason.STORES_FORBIDDEN]),
    wanted_store=st.sampled_from([None, None, 'a', 'c']),
    disk_format=st.sampled_from(['raw', 'raw', 'vmdk', 'iso']),
    container_format=st.sampled_from(['bare', 'bare', 'ova']),
    is_encrypted=st.booleans(), decryption_wanted=st.booleans(),
    depth=st.integers(0, 7),
    max_clone_depth=st.integers(0, 6), flatten_first=st.booleans(),
    may_convert=st.booleans(), built=built)


def _plan(facts: plan.CreateFacts | plan.UploadFacts
          ) -> plan.Plan | exception.VolumeRBDError:
    """The plan, or the error in its place; both must be values of ours."""
    try:
        if isinstance(facts, plan.CreateFacts):
            return plan.plan_create(facts)
        return plan.plan_upload(facts)
    except exception.VolumeRBDError as error:
        return error


every_plan = given(st.one_of(creations, uploads))


@every_plan
def test_a_plan_is_never_empty_and_only_of_what_is_built(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        return
    assert decided.choices
    assert {choice.strategy for choice in decided.choices} <= facts.built
    tried = [choice.strategy for choice in decided.choices]
    assert len(set(tried)) == len(tried)
    ruled_out = {choice.strategy for choice in decided.ruled_out}
    assert not ruled_out & set(tried)


@every_plan
def test_the_same_facts_give_the_same_plan(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    first, again = _plan(facts), _plan(copy.deepcopy(facts))
    if isinstance(first, plan.Plan):
        assert first == again
    else:
        assert str(first) == str(again)


@every_plan
def test_a_clone_is_planned_or_ruled_out_with_its_reason(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        return
    if decided.strategy is Strategy.CLONE:
        assert decided.reason is Reason.SAME_CLUSTER
        assert decided.ruled_out == ()
    else:
        assert decided.ruled_out[0].strategy is Strategy.CLONE
        assert decided.ruled_out[0].reason is decided.reason


@every_plan
def test_a_plan_has_another_way_behind_a_clone(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    """A clone may still fail when it is tried."""
    decided = _plan(facts)
    if isinstance(decided, plan.Plan) and decided.strategy is Strategy.CLONE:
        assert len(decided.choices) > 1
        assert decided.choices[-1].strategy in (Strategy.DOWNLOAD,
                                                Strategy.UPLOAD)


@every_plan
def test_every_choice_can_be_kept_as_json_and_read_by_a_person(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        assert decided.remedy
        return
    for choice in (*decided.choices, *decided.ruled_out):
        fields = choice.as_dict()
        assert all(type(value) is str for value in fields.values())
        assert fields['sentence'].startswith(
            plan.SENTENCES[choice.reason][:-1])
        assert fields['sentence'].endswith('.')


@given(creations)
def test_what_was_flagged_is_never_read_directly(
        facts: plan.CreateFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan) or decided.source is None:
        return
    sources = [known for known in facts.locations
               if known.location is not None
               and known.location.snap_spec == decided.source
               and known.problem is None]
    assert sources
    if decided.strategy is Strategy.CLONE:
        assert min(known.depth for known in sources) < facts.max_clone_depth


@given(st.lists(urls, max_size=4), st.lists(stores, max_size=3),
       st.lists(st.sampled_from(['images', 'volumes']), max_size=2))
def test_only_the_images_own_name_in_a_known_pool_of_our_cluster_is_trusted(
        texts: list[str], known: list[model.StoreInfo], pools: list[str]
        ) -> None:
    for text in texts:
        judged = plan.judge_location(text, IMAGE_ID, FSID, known, pools)
        if judged.problem is not None:
            continue
        assert judged.location is not None
        assert judged.location.fsid == FSID
        assert judged.location.image == IMAGE_ID
        assert judged.location.pool in pools or any(
            store.type == 'rbd' and store.pool == judged.location.pool
            for store in known)


@given(creations)
def test_the_volume_holds_the_image_and_keeps_to_the_quota(
        facts: plan.CreateFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        return
    image = facts.image
    if image.disk_format == 'raw':
        assert decided.size_bytes >= image.needed_bytes
    assert decided.size_bytes >= (image.virtual_size_bytes or 0)
    assert decided.size_bytes >= image.min_disk_gib * GIB
    assert decided.size_bytes > 0 or facts.size_bytes == 0
    # What is encrypted already brings its header along.
    header = decided.size_bytes - (facts.size_bytes or decided.size_bytes)
    if facts.encryption_wanted and image.is_encrypted:
        assert 0 <= header < GIB
    elif facts.size_bytes is not None:
        assert decided.size_bytes == facts.size_bytes
    if facts.max_volume_bytes is not None and not (
            facts.encryption_wanted and image.is_encrypted):
        assert decided.size_bytes <= facts.max_volume_bytes


@given(creations)
def test_a_volume_is_cloned_only_as_deep_as_allowed_and_only_if_wanted(
        facts: plan.CreateFacts) -> None:
    decided = _plan(facts)
    if isinstance(decided, plan.Plan) and decided.strategy is Strategy.CLONE:
        assert facts.max_clone_depth > 0
        assert not facts.flatten_wanted
        assert facts.image.status == 'active'
        assert facts.image.disk_format == 'raw'
        assert facts.image.container_format == 'bare'
        assert not facts.image.is_encrypted
        assert not facts.encryption_wanted


@every_plan
def test_only_a_bare_disk_whose_key_nobody_needs_is_converted(
        facts: plan.CreateFacts | plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        return
    is_converted = Strategy.CONVERT in {
        choice.strategy for choice in decided.choices}
    if isinstance(facts, plan.CreateFacts):
        image = facts.image
        is_sealed = facts.encryption_wanted and not image.is_encrypted
        assert is_converted == (image.disk_format != 'raw' or is_sealed)
        assert image.container_format == 'bare' or not is_converted
        assert not (is_converted and image.is_encrypted)
    else:
        is_opened = facts.decryption_wanted and facts.is_encrypted
        assert is_converted == (facts.disk_format != 'raw' or is_opened)
        assert facts.container_format == 'bare'
        assert not (is_converted and facts.is_encrypted) or is_opened
    is_raw = (facts.image.disk_format if isinstance(facts, plan.CreateFacts)
              else facts.disk_format) == 'raw'
    assert facts.may_convert or not is_converted or is_raw


@given(uploads)
def test_a_volume_is_cloned_only_into_a_writable_rbd_store_of_our_cluster(
        facts: plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan):
        return
    if decided.store is not None and facts.stores is not None:
        assert not decided.store.is_read_only
        if facts.wanted_store:
            assert decided.store.id == facts.wanted_store
    if decided.strategy is Strategy.CLONE:
        assert decided.store is not None
        assert decided.store.type == 'rbd'
        assert decided.store.pool
        assert decided.store.fsid == facts.fsid
        assert facts.clone_enabled
        assert not facts.is_encrypted
        assert facts.size_bytes > 0
        assert facts.flatten_first or facts.depth < facts.max_clone_depth


@given(creations)
def test_an_image_is_copied_only_as_it_is_and_downloaded_after_that(
        facts: plan.CreateFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan) or Strategy.COPY not in {
            choice.strategy for choice in decided.choices}:
        return
    assert facts.image.disk_format == 'raw'
    assert facts.image.container_format == 'bare'
    assert decided.source is not None
    assert decided.choices[-1].strategy is Strategy.DOWNLOAD


@given(uploads)
def test_a_volume_is_copied_only_into_a_store_it_could_be_cloned_into(
        facts: plan.UploadFacts) -> None:
    decided = _plan(facts)
    if not isinstance(decided, plan.Plan) or Strategy.COPY not in {
            choice.strategy for choice in decided.choices}:
        return
    assert facts.clone_enabled
    assert facts.size_bytes > 0
    assert decided.store is not None
    assert (decided.store.type, decided.store.fsid) == ('rbd', facts.fsid)
    assert decided.store.pool
    assert decided.choices[-1].strategy is Strategy.UPLOAD


# -- the reasons --------------------------------------------------------------

#: Found out only by trying; the tests of the flows reach each of them.
RUN_TIME = frozenset({
    Reason.CLONE_DENIED, Reason.COPY_FAILED, Reason.LOCATION_API_MISSING,
    Reason.LOCATION_FORBIDDEN, Reason.LOCATION_REFUSED,
    Reason.LOCATION_TASK_FAILED})
#: Nothing had to be planned; tests/unit/compute/test_fetch.py.
UNPLANNED = frozenset({Reason.ALREADY_FETCHED})
#: Why nothing can do it: told by the error, there is no plan.
REFUSALS = frozenset({Reason.NOT_BARE})


def _reached() -> Iterator[Reason]:
    """The reasons of every row of all decision tables."""
    decided = [plan.plan_create(plan_facts.create_facts()),
               plan.plan_create(plan_facts.create_facts(
                   image_disk_format='qcow2')),
               plan.plan_create(plan_facts.create_facts(
                   image_disk_format='qcow2', may_leave_base=True,
                   base=plan_facts.BASE)),
               plan.plan_create(plan_facts.create_facts(
                   encryption_wanted=True)),
               plan.plan_upload(plan_facts.upload_facts(is_encrypted=True)),
               plan.plan_upload(plan_facts.upload_facts(
                   is_encrypted=True, decryption_wanted=True)),
               plan.plan_upload(plan_facts.upload_facts()),
               plan.plan_fetch(plan_facts.fetch_facts())]
    decided += [plan.plan_fetch(plan_facts.fetch_facts(obstacle=obstacle))
                for obstacle in (Reason.DIRECT_DISABLED,
                                 Reason.CLUSTER_UNAVAILABLE)]
    rows = [*test_plan_create.DOWNLOADED, *test_plan_create.COPIED]
    decided += [plan.plan_create(plan_facts.create_facts(
        built=kind, **change)) for change, _ in rows
        for kind in (plan.BUILT, plan_facts.WITHOUT_COPY)]
    decided += [plan.plan_upload(plan_facts.upload_facts(**change))
                for change, *_ in test_plan_upload.UPLOADED]
    for one in decided:
        yield from (choice.reason
                    for choice in (*one.choices, *one.ruled_out))


def test_every_reason_is_reached_by_a_plan_or_is_known_to_need_a_try() -> None:
    reached = set(_reached())
    others = RUN_TIME | REFUSALS | UNPLANNED
    assert reached | others == set(Reason)
    assert not reached & others


@pytest.mark.parametrize('reason', list(Reason))
def test_every_reason_has_a_sentence_for_a_person(reason: Reason) -> None:
    sentence = plan.SENTENCES[reason]
    assert re.fullmatch(r'([A-Z]|rbd_|enable_).{15,}\.', sentence)
    assert '  ' not in sentence


def test_no_sentence_stands_for_two_reasons() -> None:
    assert set(plan.SENTENCES) == set(Reason)
    assert len(set(plan.SENTENCES.values())) == len(Reason)


@pytest.mark.parametrize('reason', list(Reason))
def test_a_reason_is_a_code_that_programs_can_keep(reason: Reason) -> None:
    assert re.fullmatch(r'[a-z][a-z_]+', reason.value)
    assert reason.value == reason.name.lower()


def test_the_first_choice_speaks_for_the_plan() -> None:
    decided = plan.plan_upload(plan_facts.upload_facts(
        stores=(plan_facts.FILE_STORE,), wanted_store='file1'))
    assert decided.sentence == (
        "Glance's store for this image is not RBD (store file1).")
