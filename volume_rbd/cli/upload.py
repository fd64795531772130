# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd upload``"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model
from volume_rbd.cli import base, display, secret
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result


def add_image_arguments(parser: argparse.ArgumentParser, *,
                        is_named: bool = True) -> None:
    """What describes the image that an upload makes."""
    parser.add_argument('--image-name', metavar='TITLE', required=is_named,
                        default='', help="the new image's name")
    parser.add_argument('--disk-format', metavar='FORMAT', default='raw',
                        help='the disk format (default: raw)')
    parser.add_argument('--compress', action='store_true',
                        help='compress the data, where the format is qcow2')
    parser.add_argument('--container-format', metavar='FORMAT',
                        default='bare',
                        help='the container format (default: bare)')
    parser.add_argument('--store', metavar='ID',
                        help="the Glance store (default: Glance's default)")
    parser.add_argument(
        '--property', metavar='KEY=VALUE', action='append', default=[],
        help='a property of the new image; may be given several times')


def add_decryption_arguments(parser: argparse.ArgumentParser) -> None:
    """What opens a volume that is encrypted, and what for."""
    secret.add_key_arguments(parser, 'the volume is encrypted with')
    parser.add_argument(
        '--decrypt', action='store_true',
        help='make the image of the disk inside of an encrypted volume, in '
             'the clear')


def check_key(parsed_args: argparse.Namespace) -> None:
    """:raises InvalidInput: a key and what it is for do not go together."""
    if parsed_args.decrypt and not secret.is_given(parsed_args):
        raise exception.InvalidInput(
            '--decrypt needs what opens the volume.',
            remedy='Give --passphrase-file or --encrypted-with too.')


def image_request(parsed_args: argparse.Namespace) -> ImageRequest:
    """:raises InvalidInput: a property is not KEY=VALUE."""
    properties = {}
    for text in parsed_args.property:
        key, separator, value = text.partition('=')
        if not key or not separator:
            raise exception.InvalidInput(
                f'{text!r} is no property.', remedy='Write KEY=VALUE.')
        properties[key] = value
    return ImageRequest(
        name=parsed_args.image_name, disk_format=parsed_args.disk_format,
        container_format=parsed_args.container_format,
        store_id=parsed_args.store, properties=properties,
        is_compressed=parsed_args.compress,
        is_decrypted=parsed_args.decrypt)


class Upload(base.ShowOne):
    """Make a Glance image of a volume, as it is at this moment.

    With enable_clone_optimization, and where Glance's store is in the same
    cluster, the image is a clone and takes seconds whatever its size;
    otherwise the bytes are copied there, or sent through Glance. The result
    says which way was taken and why.

    An encrypted volume is uploaded as it is: whoever uses the image needs the
    volume's key. The image has a property that says so, os_encrypt_format;
    with --encrypted-with also cinder_encryption_key_id, by which Cinder finds
    the key. What --encrypted-with or --passphrase-file name must open the
    volume. With --decrypt the image is the plain disk.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        add_image_arguments(parser)
        add_decryption_arguments(parser)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        driver = self.driver
        volume = base.volume_spec(parsed_args.name, None)
        check_key(parsed_args)
        request = image_request(parsed_args)
        passphrase = None
        if secret.is_given(parsed_args):
            passphrase = secret.get_passphrase(parsed_args, self.keys)
        if parsed_args.encrypted_with and not request.is_decrypted:
            request.properties.setdefault(model.KEY_ID_PROPERTY,
                                          parsed_args.encrypted_with)

        def make(shown: display.Display) -> Result:
            if passphrase:
                driver.encryption.try_passphrase(
                    volume.name, passphrase=passphrase, report=shown)
            return driver.images.upload(volume, request, report=shown,
                                        passphrase=passphrase)

        result = self.perform(make)
        fields = {'image_id': result.values['image_id'],
                  'image_name': request.name, 'name': volume.name,
                  'store': result.values.get('store_id'),
                  **base.result_fields(result)}
        if model.ENCRYPT_FORMAT_PROPERTY in result.values['properties']:
            fields['encryption'] = 'luks'
        if result.values.get('leftover'):
            fields['leftover'] = result.values['leftover']
        return fields
