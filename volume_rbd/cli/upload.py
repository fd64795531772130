# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd upload``"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception
from volume_rbd.cli import base
from volume_rbd.driver.images import ImageRequest


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
        is_compressed=parsed_args.compress)


class Upload(base.ShowOne):
    """Make a Glance image of a volume, as it is at this moment.

    With enable_clone_optimization, and where Glance's store is in the same
    cluster, the image is a clone and takes seconds whatever its size;
    otherwise the volume is sent through Glance. The result says which way was
    taken and why.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        add_image_arguments(parser)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        driver = self.driver
        volume = base.volume_spec(parsed_args.name, None)
        request = image_request(parsed_args)
        result = self.perform(lambda shown: driver.images.upload(
            volume, request, report=shown))
        fields = {'image_id': result.values['image_id'],
                  'image_name': request.name, 'name': volume.name,
                  'store': result.values.get('store_id'),
                  **base.result_fields(result)}
        if result.values.get('leftover'):
            fields['leftover'] = result.values['leftover']
        return fields
