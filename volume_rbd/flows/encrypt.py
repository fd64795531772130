# SPDX-License-Identifier: Apache-2.0
"""A volume that is encrypted on the way: LUKS1 straight on RBD.

The header is made by qemu-img, which knows every cipher that Cinder's volume
types can name, on a temporary rbd_image of the header's size, and copied from
there; librbd's own encryption knows AES only. A volume is larger than its
size by the header, so that whoever opens it finds all the space that was
asked for.

Who encrypts hands the passphrase over in ``tools.encryption``. It goes to
qemu-img through a pipe and nowhere else: no argument of a flow has it, which
are records, and no log, error or command line.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.copying import luks, qemu_img
from volume_rbd.flows import making, staging
from volume_rbd.flows.base import Task, Tools, is_cancelled

_NEEDED_FOR = frozenset({plan.Reason.ENCRYPTION_WANTED,
                         plan.Reason.DECRYPTION_WANTED})


def needs_passphrase(arguments: Mapping[str, Any]) -> bool:
    """Whether a flow of these *arguments* has one, which no record has: who
    takes it up in another process can only undo it."""
    return bool(arguments.get('has_passphrase')) or any(
        choice['reason'] in _NEEDED_FOR
        for choice in arguments.get('choices', ()))


def check_given(tools: Tools, arguments: Mapping[str, Any]) -> None:
    """What a flow is to do with a passphrase it never does without: it would
    leave in the clear what was to be encrypted. To undo it takes none.

    :raises InvalidInput: its arguments ask for one, and nobody gave it.
    """
    if tools.encryption is None and needs_passphrase(arguments) and not (
            tools.is_resumed and is_cancelled(tools.report)):
        raise exception.InvalidInput(
            f'The passphrase of volume {arguments["volume_name"]!r} is '
            'needed.', remedy='Give it.')


def before_write(tools: Tools, arguments: Mapping[str, Any]) -> list[Task]:
    """Between the inspection of a disk and its conversion."""
    return [WriteHeader(tools)] if needs_passphrase(arguments) else []


def at_end(tools: Tools, arguments: Mapping[str, Any]) -> list[Task]:
    """What was encrypted before was copied as it is, and never opened."""
    is_opened = all(choice['strategy'] == plan.Strategy.CONVERT
                    for choice in arguments['choices'])
    return [TryPassphrase(tools)] if needs_passphrase(
        arguments) and not is_opened else []


def refuse_encrypted(tools: Tools, file: Image, image_id: str) -> None:
    """An image that is encrypted and does not say so is not encrypted once
    more: nobody would find his disk in it.

    :raises ImageUnsafe:
    """
    if tools.encryption and is_encrypted(file):
        raise exception.ImageUnsafe(
            f'Image {image_id} is encrypted (LUKS) already, and none of its '
            'properties says so.',
            remedy='Set its property os_encrypt_format to LUKS (or '
                   'cinder_encryption_key_id to the id of its key), and give '
                   'the passphrase of the image.')


class WriteHeader(Task):
    """Make a header and let the volume be larger by it."""

    title = 'making the LUKS header'

    def execute(self, job: str, volume_name: str) -> None:
        tools = self.tools
        if tools.encryption is None:
            return
        with making.filling(
                tools.pool, volume_name, job,
                self.or_undo(lambda: self._drop_stage(volume_name))
                ) as volume:
            header = make_header(tools.pool, volume_name, tools.encryption,
                                 tools.config.cluster, tools.converter,
                                 tools.report)
            volume.resize(volume.size_bytes + len(header))
            volume.write(header, 0)
            volume.flush()

    def revert(self, volume_name: str, **kwargs: Any) -> None:
        if self.tools.is_resumed:
            self._drop_stage(volume_name)

    def _drop_stage(self, volume_name: str) -> None:
        staging.drop_held(self.tools.pool, _stage_name(volume_name))


class TryPassphrase(Task):
    """No volume that its passphrase does not open."""

    title = 'opening the volume with its passphrase'

    def execute(self, volume_name: str) -> None:
        tools = self.tools
        if tools.key is None:
            return
        with self.or_undo(lambda: staging.wait_until_let_go(
                tools.pool, volume_name)):
            try_passphrase(tools.pool, volume_name, tools.key,
                           tools.config.cluster, tools.converter,
                           tools.report)

    def revert(self, volume_name: str, **kwargs: Any) -> None:
        if self.tools.is_resumed:
            staging.wait_until_let_go(self.tools.pool, volume_name)


def make_header(pool: Pool, owner: str, encryption: luks.Encryption,
                cluster: opts.ClusterConfig, converter: qemu_img.Converter,
                report: progress.Progress) -> bytes:
    """:param owner: the volume that it is for.
    :raises ConversionFailed: and what qemu-img raises besides; nothing is
        left.
    """
    name = _stage_name(owner)
    staging.drop_left(pool, name)
    target = qemu_img.RBDDisk(pool.name, name, cluster)
    try:
        for attempt in qemu_img.retrying():
            with attempt:
                staging.drop_held(pool, name)
                converter.make_luks_header(target, encryption, report=report)
        staging.mark(pool, name, job=str(uuid.uuid4()), origin='blank')
        with pool.open(name, read_only=True) as stage:
            header = stage.read(0, stage.size_bytes)
    finally:
        staging.drop_held(pool, name)
    if luks.find_header_bytes(header) != len(header):
        raise exception.ConversionFailed(
            'qemu-img made no LUKS header.', remedy='Update qemu-img.')
    return header


def _stage_name(owner: str) -> str:
    """The disk itself may be staged at the same time."""
    return staging.stage_name(f'{owner}.luks')


def try_passphrase(pool: Pool, name: str, key: bytes,
                   cluster: opts.ClusterConfig,
                   converter: qemu_img.Converter, report: progress.Progress
                   ) -> None:
    """See that *key* opens the volume *name*.

    :raises NotSupported: it has no LUKS1 header.
    :raises WrongPassphrase:
    """
    with pool.open(name, read_only=True) as image:
        get_header_bytes(image)
    try:
        converter.open_luks(qemu_img.RBDDisk(pool.name, name, cluster), key,
                            report=report)
    except exception.WrongPassphrase as error:
        raise exception.WrongPassphrase(
            f'The passphrase does not open volume {name!r}.') from error


def get_header_bytes(image: Image) -> int:
    """The length of the LUKS1 header of *image*, in bytes.

    :raises NotSupported: it has none.
    """
    found = luks.find_header_bytes(_head(image))
    if found is None:
        raise exception.NotSupported(
            f'Volume {image.spec.name!r} has no LUKS1 header.')
    return found


def is_encrypted_volume(volume: model.VolumeSpec, image: Image) -> bool:
    """As its caller says; where he does not know, as *image* looks."""
    if volume.is_encrypted is None:
        return is_encrypted(image)
    return volume.is_encrypted


def is_encrypted(image: Image) -> bool:
    return luks.is_encrypted(_head(image))


def _head(image: Image) -> bytes:
    return image.read(0, min(luks.HEAD_BYTES, image.size_bytes))
