# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd plan``: which way, and why; touches nothing."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from volume_rbd import model, plan
from volume_rbd.cli import base, secret, upload


def plan_fields(decided: plan.Plan) -> dict[str, Any]:
    return {
        'operation': decided.operation.value,
        'strategy': decided.strategy.value,
        'reason': decided.reason.value,
        'sentence': decided.sentence,
        'fallbacks': base.ListColumn([
            choice.strategy.value for choice in decided.choices[1:]]),
        'ruled_out': base.ListColumn([
            f'{choice.strategy.value} ({choice.reason.value})'
            for choice in decided.ruled_out]),
        'size_gib': model.gib_for(decided.size_bytes),
        'size_bytes': decided.size_bytes,
    }


class PlanCreate(base.ShowOne):
    """Say how a volume would be made from an image, and why so."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        parser.add_argument('--image', metavar='ID', required=True,
                            help='the id of a Glance image')
        parser.add_argument('--size', metavar='GIB', help='the size in GiB')
        secret.add_key_arguments(
            parser, '(as for create, and not read here) encrypt the volume '
                    'with')
        secret.add_cipher_arguments(parser)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        secret.check_cipher(parsed_args)
        volume = dataclasses.replace(
            base.volume_spec(parsed_args.name, parsed_args.size),
            is_encrypted=secret.is_given(parsed_args))
        decided = self.driver.images.plan_create(volume, parsed_args.image)
        source = str(decided.source) if decided.source else None
        is_staged = (decided.strategy is plan.Strategy.CONVERT
                     and source is None)
        return {**plan_fields(decided), 'source': source,
                'is_staged': is_staged}


class PlanUpload(base.ShowOne):
    """Say how a volume would become an image, and why so."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        upload.add_image_arguments(parser, is_named=False)
        upload.add_decryption_arguments(parser)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        upload.check_key(parsed_args)
        volume = base.volume_spec(parsed_args.name, None)
        decided = self.driver.images.plan_upload(
            volume, upload.image_request(parsed_args))
        return {**plan_fields(decided),
                'store': decided.store.id if decided.store else None}
