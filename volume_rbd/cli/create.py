# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd create``"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model
from volume_rbd.cli import base, display, secret
from volume_rbd.copying import luks


class Create(base.ShowOne):
    """Create a volume: empty, from an image, a snapshot or a volume.

    From an image, the data is shared by a clone wherever that is safe; the
    result says which way was taken and why.

    With --encrypted-with or --passphrase-file the volume is encrypted (LUKS1,
    as Cinder's are), empty or from an image, and larger than its size by the
    header. An image that is encrypted already is copied as it is, and must
    open with that key or passphrase. What is made of a snapshot or a volume
    has the passphrase of that.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME',
                            help="the volume's (and its rbd_image's) name")
        parser.add_argument(
            '--size', metavar='GIB',
            help='the size in GiB; from a source, at least its size '
                 '(default: just that)')
        source = parser.add_mutually_exclusive_group()
        source.add_argument('--image', metavar='ID',
                            help='the id of a Glance image')
        source.add_argument('--snapshot', metavar='VOLUME@SNAPSHOT',
                            help='a snapshot of a volume')
        source.add_argument('--source', metavar='VOLUME',
                            help='a volume, as it is now')
        secret.add_key_arguments(parser, 'encrypt the volume with')
        secret.add_cipher_arguments(parser)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        volume = base.volume_spec(parsed_args.name, parsed_args.size)
        secret.check_cipher(parsed_args)
        encryption = None
        if secret.is_given(parsed_args):
            if parsed_args.snapshot or parsed_args.source:
                raise exception.InvalidInput(
                    'What is made of a snapshot or a volume has the '
                    'passphrase of that.',
                    remedy='Leave --encrypted-with and --passphrase-file '
                           'out.')
            encryption = secret.get_encryption(parsed_args, self.keys)
        if parsed_args.image:
            fields = self._from_image(volume, parsed_args.image, encryption)
        elif encryption:
            fields = self._encrypted(volume, encryption)
        else:
            return self._from_volume(volume, parsed_args)
        if encryption:
            fields.update(self._describe_encryption(
                volume.name, parsed_args.encrypted_with))
        return fields

    def _from_image(self, volume: model.VolumeSpec, image_id: str,
                    encryption: luks.Encryption | None) -> dict[str, Any]:
        driver = self.driver
        result = self.perform(lambda shown: driver.images.create(
            volume, image_id, report=shown, encryption=encryption))
        return {'name': volume.name, 'pool': driver.config.pool,
                'image_id': image_id, **base.result_fields(result)}

    def _encrypted(self, volume: model.VolumeSpec,
                   encryption: luks.Encryption) -> dict[str, Any]:
        driver = self.driver
        started = time.monotonic()
        self.perform(lambda shown: driver.encryption.create_blank(
            volume, report=shown, **dataclasses.asdict(encryption)))
        return {
            'name': volume.name, 'pool': driver.config.pool,
            'size_gib': None, 'size_bytes': None, 'parent': None,
            'origin': 'blank',
            'seconds': round(time.monotonic() - started, 3)}

    def _describe_encryption(self, name: str, key_id: str | None
                             ) -> Mapping[str, Any]:
        """The size is that of the disk inside."""
        driver = self.driver
        header_bytes = driver.encryption.get_header_bytes(name)
        size_bytes = driver.volumes.show(name).size_bytes - header_bytes
        return {'size_gib': model.gib_for(size_bytes),
                'size_bytes': size_bytes, 'encryption': 'luks',
                'header_bytes': header_bytes, 'key_id': key_id}

    def _from_volume(self, volume: model.VolumeSpec,
                     parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        driver = self.driver
        started = time.monotonic()

        def make(shown: display.Display) -> None:
            if parsed_args.snapshot:
                driver.volumes.create_from_snapshot(
                    volume, *base.split_snapshot(parsed_args.snapshot),
                    report=shown)
            elif parsed_args.source:
                driver.volumes.create_from_volume(
                    volume, parsed_args.source, report=shown)
            else:
                shown.check()
                shown.step('creating the volume')
                driver.volumes.create(volume)

        if not (parsed_args.snapshot or parsed_args.source
                or volume.size_bytes):
            raise exception.InvalidSize(
                'An empty volume needs a size.', remedy='Give --size GIB.')
        self.perform(make)
        made = driver.volumes.show(volume.name)
        return {
            'name': volume.name, 'pool': driver.config.pool,
            'size_gib': model.gib_for(made.size_bytes),
            'size_bytes': made.size_bytes, 'parent': made.parent,
            'origin': made.lineage.origin if made.lineage else None,
            'seconds': round(time.monotonic() - started, 3)}
