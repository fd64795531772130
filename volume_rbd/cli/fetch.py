# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd fetch``"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volume_rbd.cli import base
from volume_rbd.compute import Fetched


class Fetch(base.ShowOne):
    """Fetch an image into a local file, straight from RBD where that goes.

    Without --output the file is the one of the compute agent's image cache.
    A file that is there is used if it is this image, and never written to.
    The result says which way was taken and why.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('image_id', metavar='IMAGE_ID',
                            help='the id of a Glance image')
        parser.add_argument(
            '--output', metavar='PATH', type=Path,
            help='the file to make (default: the one in the image cache)')
        parser.add_argument(
            '--disk-format', choices=['raw'],
            help='convert it (default: keep it as it is)')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        output = parsed_args.output
        fetched: Fetched = self.perform(
            lambda report: self.agent.fetcher.fetch(
                parsed_args.image_id,
                output.absolute() if output else None,
                convert_to=parsed_args.disk_format, report=report))
        return {
            'path': str(fetched.path),
            'strategy': fetched.strategy,
            'reason': fetched.reason,
            'sentence': fetched.sentence,
            'disk_format': fetched.disk_format,
            'size_bytes': fetched.size_bytes,
            'disk_bytes': fetched.disk_bytes,
            'bytes_moved': fetched.bytes_moved,
            'seconds': round(fetched.seconds, 3),
            'hash': base.OptionalColumn(fetched.hash),
            'signature_verified': base.OptionalColumn(
                fetched.signature_verified),
            **base.attempt_fields(fetched.attempts),
        }
