# SPDX-License-Identifier: Apache-2.0
"""create_from_image: a Glance image becomes a volume.

Arguments (JSON): job, image_id, volume_name, size_bytes, is_size_fixed,
image_size_bytes, disk_format, source ([pool, image, snapshot] or None),
stages_clone (what is converted is a clone of it), choices, has_passphrase,
settings (of the volume's type; None where it asks for none).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from taskflow.patterns import linear_flow
from taskflow.types import failure

from volume_rbd import exception, model, plan, progress
from volume_rbd.ceph import lineage
from volume_rbd.ceph import settings as settings_
from volume_rbd.copying import clearing, inbound
from volume_rbd.flows import (
    convert_image,
    copies,
    copy_image,
    encrypt,
    making,
    owning,
    strategies,
    verify,
)
from volume_rbd.flows.base import Task, Tools

NAME = plan.Operation.CREATE_FROM_IMAGE.value

_CHUNK_BYTES = 1 * model.MIB


def get_arguments(decided: plan.Plan, *, job: str, image: model.GlanceImage,
                  volume_name: str, volume: model.VolumeSpec | None = None,
                  has_passphrase: bool = False) -> dict[str, Any]:
    """:param volume: where its settings are wanted.
    :param has_passphrase: the tools have one."""
    source = decided.source
    return {
        'job': job,
        'image_id': image.id,
        'image_size_bytes': image.size_bytes or 0,
        'volume_name': volume_name,
        'disk_format': image.disk_format,
        'size_bytes': decided.size_bytes,
        'is_size_fixed': decided.is_size_fixed,
        'source': ([source.pool, source.image, source.snapshot]
                   if source else None),
        'stages_clone': decided.stages_clone,
        'choices': [choice.as_dict() for choice in decided.choices],
        'has_passphrase': has_passphrase,
        'settings': making.get_settings(volume) if volume else None,
    }


def get_flow(tools: Tools, arguments: Mapping[str, Any], *,
             replaces: bool = False) -> linear_flow.Flow:
    """:param replaces: the volume is there, and gets another content."""
    encrypt.check_given(tools, arguments)
    if replaces:
        return _get_replacing_flow(tools, arguments)
    branches: dict[str, list[Task]] = {
        plan.Strategy.CLONE: verify.before_clone(tools, [CloneImage(tools)]),
        plan.Strategy.CONVERT: [
            CreateBlank(tools), *convert_image.get_tasks(
                tools, convert_image.find_stage(tools, arguments),
                before_write=encrypt.before_write(tools, arguments))],
        plan.Strategy.COPY: [copy_image.CopyImage(tools)],
        plan.Strategy.DOWNLOAD: [CreateBlank(tools), Download(tools)],
    }
    flow = linear_flow.Flow(NAME)
    flow.add(strategies.get_flow(tools, arguments['choices'], branches),
             *verify.at_end(tools),
             *encrypt.at_end(tools, arguments))
    if arguments['settings']:
        flow.add(ApplySettings(tools))
    return flow


def _get_replacing_flow(tools: Tools, arguments: Mapping[str, Any]
                        ) -> linear_flow.Flow:
    branches: dict[str, list[Task]] = {
        plan.Strategy.CONVERT: convert_image.get_tasks(
            tools, convert_image.find_stage(tools, arguments),
            before_write=[ClearVolume(tools)], replaces=True),
        plan.Strategy.COPY: [ClearForCopy(tools), copy_image.CopyOver(tools)],
        plan.Strategy.DOWNLOAD: [ClearVolume(tools),
                                 Download(tools, replaces=True)],
    }
    flow = linear_flow.Flow(NAME)
    flow.add(strategies.get_flow(tools, arguments['choices'], branches),
             *verify.at_end(tools))
    return flow


class CloneImage(Task):
    """Clone the image's snapshot, make it ours, grow it."""

    title = 'cloning the image'

    def execute(self, job: str, image_id: str, volume_name: str,
                source: Sequence[str], size_bytes: int) -> None:
        parent = model.SnapSpec(*source)
        pool = self.tools.pool
        layout = self.tools.config.layout.of_clone()
        verify.require(self.tools, image_id)
        if self.tools.is_resumed:
            self._drop(job, volume_name, source)
        try:
            copies.make_anew(pool, volume_name, lineage.VOLUME,
                             lambda: pool.clone(
                                 parent, volume_name, layout=layout),
                             self.tools.report)
        except (exception.SnapshotNotFound, exception.ImageNotFound) as error:
            raise _not_cloneable(plan.Reason.MISSING_SNAPSHOT, error) from None
        except (exception.NotSupported, exception.CephPermissionDenied
                ) as error:
            # It could be read a moment ago: to clone takes more.
            raise _not_cloneable(plan.Reason.CLONE_FAILED, error) from None
        with self.or_undo(lambda: pool.remove(volume_name)), \
                pool.open(volume_name) as volume:
            lineage.adopt(volume, kind=lineage.VOLUME, job=job,
                          origin=f'rbd:{parent}')
            copy_image.check_fits(image_id, volume, size_bytes)
            if volume.size_bytes < size_bytes:
                volume.resize(size_bytes)
            self.tools.report.check()  # no step follows that would

    def revert(self, job: str, volume_name: str, source: Sequence[str],
               result: object, **kwargs: Any) -> None:
        self._drop(job, volume_name, source, result)

    def _drop(self, job: str, volume_name: str, source: Sequence[str],
              result: object = None) -> None:
        is_clone = owning.is_clone_begun(model.SnapSpec(*source),
                                         self.tools.cluster)
        owning.drop(self.tools.pool, volume_name,
                    owning.made_by(self.tools, job, is_clone, result))


class CreateBlank(Task):
    """Make the empty volume that the image's bytes go into."""

    title = 'creating the volume'

    def execute(self, job: str, image_id: str, volume_name: str,
                size_bytes: int) -> None:
        pool = self.tools.pool
        if self.tools.is_resumed:
            self._drop(job, volume_name, size_bytes)
        copies.make_anew(
            pool, volume_name, lineage.VOLUME, lambda: pool.create(
                volume_name, size_bytes, layout=self.tools.config.layout),
            self.tools.report)
        with self.or_undo(lambda: pool.remove(volume_name)), \
                pool.open(volume_name) as volume:
            lineage.adopt(volume, kind=lineage.VOLUME, job=job,
                          origin=f'glance:{image_id}',
                          state=lineage.PENDING)

    def revert(self, job: str, volume_name: str, size_bytes: int,
               result: object, **kwargs: Any) -> None:
        self._drop(job, volume_name, size_bytes, result)

    def _drop(self, job: str, volume_name: str, size_bytes: int,
              result: object = None) -> None:
        owning.drop(self.tools.pool, volume_name, owning.made_by(
            self.tools, job, owning.is_blank(size_bytes), result))


class ClearVolume(Task):
    """Let the volume that is there read as zeros, for another content. There
    is no way back from here; bytes that are refused do not stay either."""

    title = 'clearing the volume'

    def execute(self, volume_name: str) -> None:
        with self.tools.pool.open(volume_name) as volume:
            if watchers := volume.watchers():
                raise exception.ImageBusy(
                    f'Volume {volume_name!r} is open at '
                    f'{", ".join(watchers)}.')
            clearing.clear(volume, self.tools.report)

    def revert(self, volume_name: str, result: object, **kwargs: Any) -> None:
        if isinstance(result, failure.Failure):
            return  # nothing was written after it
        with self.tools.pool.open(volume_name) as volume:
            clearing.clear(volume, progress.Silent())


class ClearForCopy(ClearVolume):
    """The same: in one flow with the other, it has a name of its own."""


class Download(Task):
    """Stream the image from Glance into the volume; zeros stay holes."""

    title = 'downloading the image'
    default_provides = 'bytes_moved'

    def __init__(self, tools: Tools, *, replaces: bool = False) -> None:
        super().__init__(tools)
        self._replaces = replaces

    def execute(self, job: str, image_id: str, image_size_bytes: int,
                volume_name: str) -> int:
        report = self.tools.transfer()
        report.start(image_size_bytes)
        operations = inbound.operations_within_memory(
            self.tools.config.copy_operations, _CHUNK_BYTES)
        with contextlib.closing(self.tools.glance.download(
                image_id, _CHUNK_BYTES)) as chunks, \
                self.tools.pool.open(volume_name) as volume:
            if not self._replaces:
                making.check_made_by(job, volume)
            moved = inbound.write_stream(
                verify.verified(self.tools, chunks), volume,
                operations=operations, report=report)
            lineage.set_state(volume, lineage.COMPLETE)
        return moved


class ApplySettings(Task):
    """Limits and multiattach, whatever the strategy was.

    To undo it is to remove the volume, which whoever made it does.
    """

    title = 'applying what the volume type asks for'

    def execute(self, volume_name: str, settings: Mapping[str, Any]) -> None:
        wanted = model.VolumeSpec(volume_name, **settings)
        with self.tools.pool.open(volume_name) as volume:
            settings_.apply_settings(volume, wanted)


def _not_cloneable(reason: plan.Reason, error: exception.VolumeRBDError
                   ) -> exception.NotCloneable:
    return exception.NotCloneable(error.message, reason=reason.value)
