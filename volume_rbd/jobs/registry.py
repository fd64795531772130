# SPDX-License-Identifier: Apache-2.0
"""The operations that can be jobs: a closed list.

A record names one of these and gives its arguments, JSON; nothing that a
record says is imported or called. What it asks for is looked at twice: its
shape here, and by :func:`decide` against the cluster and Glance as they are.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jsonschema
from taskflow import flow as taskflow_flow

from volume_rbd import exception, model, plan
from volume_rbd.flows import (
    create_from_image,
    create_volume,
    delete_volume,
    settling,
    upload_to_image,
    volume_snapshot,
)
from volume_rbd.flows.base import Tools
from volume_rbd.jobs.job import Job

Arguments = Mapping[str, Any]

#: Another content for a volume that is there.
REPLACE_CONTENT = 'replace_content'


class Rule(enum.Enum):
    """What becomes of a job whose owner is gone."""

    RESUME = 'resume'
    UNDO = 'undo'


def _nothing_to_wait_for(tools: Tools, arguments: Arguments) -> str:
    return settling.SETTLED


@dataclasses.dataclass(frozen=True)
class Operation:
    """:param properties: of its arguments, as JSON schema has them.
    :param get_claim: what nobody else may work at meanwhile.
    :param decide: which of :class:`Rule`, given the names of the tasks that
        are done; raises where Glance or the cluster cannot be asked now.
    :param settle: looks again at what Glance had not finished.
    :param asks_glance: there is an image to it.
    """

    get_flow: Callable[[Tools, Arguments], taskflow_flow.Flow]
    properties: Mapping[str, Any]
    get_claim: Callable[[Arguments], str]
    decide: Callable[[Tools, Job, Collection[str]], Rule]
    settle: Callable[[Tools, Arguments], str] = _nothing_to_wait_for
    asks_glance: bool = False


def get(name: str) -> Operation:
    """:raises InvalidInput: there is none of that name."""
    try:
        return _OPERATIONS[name]
    except KeyError:
        raise exception.InvalidInput(
            f'There is no operation {name!r}.',
            remedy='A newer release may know it.') from None


def check(job: Job) -> Operation:
    """:raises InvalidInput: its operation or arguments are none of ours."""
    operation = get(job.operation)
    try:
        jsonschema.validate(dict(job.arguments), {
            'type': 'object', 'properties': dict(operation.properties),
            'required': sorted(operation.properties.keys() - _ADDED),
            'additionalProperties': False})
    except jsonschema.ValidationError as error:
        raise exception.InvalidInput(
            f'The arguments of job {job.id} are not those of '
            f'{job.operation}: {error.message[:200]}.') from None
    if (job.arguments['job'] != job.id
            or job.claims != (operation.get_claim(job.arguments),)):
        raise exception.InvalidInput(
            f'The arguments of job {job.id} are those of another one.')
    return operation


# A record of an earlier release lacks them.
_ADDED = frozenset({'stages_clone', 'has_passphrase'})
_FOR_ALL = ('public', 'community')


# -- the rules ----------------------------------------------------------------
def _decide_create(tools: Tools, job: Job, done: Collection[str]) -> Rule:
    if job.is_undone_when_lost or job.has_secret:
        return Rule.UNDO
    image = _find_image(tools, job)
    if image is None or image.status != 'active' or not (
            _is_of_project(image, job)
            or image.properties.get('visibility') in _FOR_ALL):
        return Rule.UNDO
    source = job.arguments['source']
    if source is not None:
        _check_pool(tools, source[0])
    return Rule.RESUME


def _decide_upload(tools: Tools, job: Job, done: Collection[str]) -> Rule:
    arguments = job.arguments
    if arguments['store_pool'] is not None:
        _check_pool(tools, arguments['store_pool'])
    image = _find_image(tools, job)
    if image is None:
        return Rule.UNDO  # not made yet, or not any more
    if not _is_of_project(image, job):
        raise exception.AccessDenied(
            f'Image {image.id} is not of the project that job {job.id} is '
            'for.')
    if image.status in ('deleted', 'pending_delete', 'killed'):
        return Rule.UNDO
    if job.has_secret:
        return Rule.UNDO
    is_asked = bool({'Register', 'RegisterCopy'} & set(done))
    if not is_asked and not tools.pool.has_image(arguments['volume_name']):
        return Rule.UNDO
    return Rule.RESUME


def _decide_volume(tools: Tools, job: Job, done: Collection[str]) -> Rule:
    if job.is_undone_when_lost or job.has_secret:
        return Rule.UNDO
    source = job.arguments['source_volume']
    if source is not None and not tools.pool.has_image(source):
        return Rule.UNDO
    return Rule.RESUME


def _always_resume(tools: Tools, job: Job, done: Collection[str]) -> Rule:
    return Rule.RESUME


def _always_undo(tools: Tools, job: Job, done: Collection[str]) -> Rule:
    return Rule.UNDO


def _find_image(tools: Tools, job: Job) -> model.GlanceImage | None:
    try:
        return tools.glance.get_image(job.arguments['image_id'])
    except exception.GlanceImageNotFound:
        return None


def _is_of_project(image: model.GlanceImage, job: Job) -> bool:
    """The service may see and do more than who the job was for."""
    return (None in (job.project_id, image.owner)
            or image.owner == job.project_id)


def _check_pool(tools: Tools, name: str) -> None:
    """:raises AccessDenied: it is no pool of a store of Glance's here."""
    config = tools.config
    if name in (config.pool, *config.image_pools):
        return
    fsid = tools.cluster.fsid
    if not any(store.pool == name and store.fsid in (None, fsid)
               for store in tools.glance.get_stores()):
        raise exception.AccessDenied(
            f'Pool {name!r} is not that of a store of Glance.')


# -- the list -----------------------------------------------------------------
_TEXT = {'type': 'string'}
_NAME = {'type': 'string', 'minLength': 1, 'maxLength': 255,
         'pattern': '^[^/@]+$'}
_ID = {'type': 'string', 'pattern': '^[0-9a-fA-F-]{32,36}$'}
_SIZE = {'type': 'integer', 'minimum': 0, 'maximum': 2 ** 62}
_FLAG = {'type': 'boolean'}
_TEXTS = {'type': 'object', 'additionalProperties': _TEXT}
_CHOICES = {'type': 'array', 'minItems': 1, 'items': {
    'type': 'object', 'required': ['strategy', 'reason', 'sentence'],
    'properties': {
        'strategy': {'enum': [found.value for found in plan.Strategy]},
        'reason': {'enum': [found.value for found in plan.Reason]},
        'sentence': _TEXT}}}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {'anyOf': [schema, {'type': 'null'}]}


_CREATE_PROPERTIES = {
    'job': _ID, 'image_id': _ID, 'image_size_bytes': _SIZE,
    'has_passphrase': _FLAG,
    'volume_name': _NAME, 'disk_format': _NAME, 'size_bytes': _SIZE,
    'is_size_fixed': _FLAG,
    'source': _or_null({'type': 'array', 'items': _NAME, 'minItems': 3,
                        'maxItems': 3}),
    'stages_clone': _FLAG,
    'choices': _CHOICES,
    'settings': _or_null({
        'type': 'object', 'properties': {
            'qos': {'type': 'object'}, 'is_multiattach': _FLAG},
        'additionalProperties': False}),
}
_VOLUME_PROPERTIES = {
    'job': _ID, 'volume_name': _NAME, 'size_bytes': _SIZE,
    'is_size_fixed': _FLAG, 'source_volume': _or_null(_NAME),
    'source_snapshot': _or_null(_NAME),
    'flatten': {'enum': [found.value for found in create_volume.Flatten]},
    'choice': {'type': 'object', 'required': ['strategy', 'reason'],
               'properties': {'strategy': {'enum': [
                   found.value for found in create_volume.Way]}}},
    'settings': _or_null({'type': 'object'}), 'has_passphrase': _FLAG,
}
_UPLOAD_PROPERTIES = {
    'job': _ID, 'image_id': _ID, 'image_name': _TEXT, 'disk_format': _NAME,
    'is_compressed': _FLAG, 'container_format': _NAME, 'properties': _TEXTS,
    'min_disk_gib': _SIZE, 'record_exists': _FLAG,
    'gives_up_record': _FLAG, 'volume_name': _NAME, 'size_bytes': _SIZE,
    'fsid': _ID, 'store_id': _or_null(_TEXT),
    'store_pool': _or_null(_NAME), 'choices': _CHOICES,
}


_CHOICE = {'type': 'object', 'required': ['strategy', 'reason', 'sentence'],
           'additionalProperties': _TEXT}
_DELETE_PROPERTIES = {
    'job': _ID, 'volume_name': _NAME, 'image_id': _NAME, 'delay_s': _SIZE,
    'state_before': _or_null(_TEXT), 'choice': _CHOICE,
}
_SNAPSHOT_PROPERTIES = {
    'job': _ID, 'volume_name': _NAME, 'snapshot_name': _NAME,
    'choice': _CHOICE,
}


def _snapshot_claim(arguments: Arguments) -> str:
    return (f'snapshot/{arguments["volume_name"]}'
            f'@{arguments["snapshot_name"]}')


def _volume_claim(arguments: Arguments) -> str:
    return f'volume/{arguments["volume_name"]}'


_OPERATIONS: Mapping[str, Operation] = {
    create_from_image.NAME: Operation(
        create_from_image.get_flow, _CREATE_PROPERTIES, _volume_claim,
        _decide_create, asks_glance=True),
    REPLACE_CONTENT: Operation(
        lambda tools, arguments: create_from_image.get_flow(
            tools, arguments, replaces=True),
        _CREATE_PROPERTIES, _volume_claim, _always_undo, asks_glance=True),
    create_volume.NAME: Operation(
        create_volume.get_flow, _VOLUME_PROPERTIES, _volume_claim,
        _decide_volume),
    delete_volume.NAME: Operation(
        delete_volume.get_flow, _DELETE_PROPERTIES, _volume_claim,
        _always_resume),
    volume_snapshot.CREATE: Operation(
        volume_snapshot.get_create_flow, _SNAPSHOT_PROPERTIES,
        _snapshot_claim, _always_resume),
    volume_snapshot.DELETE: Operation(
        volume_snapshot.get_delete_flow, _SNAPSHOT_PROPERTIES,
        _snapshot_claim, _always_resume),
    upload_to_image.NAME: Operation(
        upload_to_image.get_flow, _UPLOAD_PROPERTIES,
        lambda arguments: f'image/{arguments["image_id"]}', _decide_upload,
        settling.settle, asks_glance=True),
}
