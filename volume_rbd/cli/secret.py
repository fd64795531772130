# SPDX-License-Identifier: Apache-2.0
"""What encrypts a volume: from a key manager, a file or standard input."""

from __future__ import annotations

import argparse
import os
import stat
import sys

from volume_rbd import exception, key_manager
from volume_rbd.copying import luks

# cryptsetup takes no longer one from a terminal; and it fits into a pipe.
_MAX_BYTES = 512


def add_key_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """:param what: what the key does."""
    key = parser.add_mutually_exclusive_group()
    key.add_argument(
        '--encrypted-with', metavar='KEY_ID',
        help=f'{what} the key of that id in the key manager that [key_manager]'
             ' of the configuration names')
    key.add_argument(
        '--passphrase-file', metavar='FILE',
        help=f'{what} the passphrase in FILE, which nobody but its owner and '
             'group may read; "-" is standard input; a newline at its end '
             'does not count')


def add_cipher_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cipher', metavar='CIPHER',
        help='the cipher of an encrypted volume, in the words of dm-crypt '
             f'(default: {luks.CIPHER})')
    parser.add_argument(
        '--key-size', metavar='BITS', type=int,
        help="the size of the cipher's key: 128, 192 or 256, of which xts "
             f'takes two (default: {luks.KEY_SIZE})')


def is_given(parsed_args: argparse.Namespace) -> bool:
    """Whether something names a key. Reads nothing."""
    return bool(parsed_args.encrypted_with or parsed_args.passphrase_file)


def check_cipher(parsed_args: argparse.Namespace) -> None:
    """:raises InvalidInput: a cipher for what is not to be encrypted."""
    if not is_given(parsed_args) and (parsed_args.cipher
                                      or parsed_args.key_size):
        raise exception.InvalidInput(
            '--cipher and --key-size are for encrypted volumes.',
            remedy='Give --encrypted-with or --passphrase-file too.')


def get_encryption(parsed_args: argparse.Namespace,
                   keys: key_manager.KeyManager) -> luks.Encryption:
    """:raises KeyNotFound, Unavailable: the key manager.
    :raises InvalidInput: the file.
    """
    cipher = parsed_args.cipher or luks.CIPHER
    key_size = parsed_args.key_size or luks.KEY_SIZE
    if parsed_args.encrypted_with:
        return luks.Encryption(
            keys.get_passphrase(parsed_args.encrypted_with), cipher, key_size)
    passphrase = read_passphrase(parsed_args.passphrase_file)
    return luks.Encryption(passphrase, cipher, key_size,
                           luks.get_hashing_ms(passphrase))


def get_passphrase(parsed_args: argparse.Namespace,
                   keys: key_manager.KeyManager) -> str:
    if parsed_args.encrypted_with:
        return keys.get_passphrase(parsed_args.encrypted_with)
    return read_passphrase(parsed_args.passphrase_file)


def read_passphrase(path: str) -> str:
    """:param path: ``-`` is standard input.
    :raises InvalidInput: it cannot be read, everybody can read it, or what
        is in it is no passphrase.
    """
    data = _read_input() if path == '-' else _read_file(path)
    if data.endswith(b'\n'):
        data = data[:-1]
    if not data or len(data) > _MAX_BYTES:
        raise exception.InvalidInput(
            f'{_name(path)} has no passphrase of 1 to {_MAX_BYTES} bytes.',
            remedy='Make one with "openssl rand -hex 32".')
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Not the error itself: it has the bytes.
        raise exception.InvalidInput(
            f'The passphrase in {_name(path)} is no text in UTF-8.',
            remedy='Make one with "openssl rand -hex 32".') from None


def _read_input() -> bytes:
    if sys.stdin.isatty():
        raise exception.InvalidInput(
            'Standard input is a terminal, which would show the passphrase.',
            remedy='Send it through a pipe, or name a file.')
    return sys.stdin.buffer.read(_MAX_BYTES + 2)


def _read_file(path: str) -> bytes:
    try:
        with open(path, 'rb') as stream:
            found = os.fstat(stream.fileno())
            # A pipe (of a shell's "<(...)") has no reader but us.
            if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IRWXO:
                raise exception.InvalidInput(
                    f'{path} is open to everybody '
                    f'({stat.filemode(found.st_mode)}), and is to keep a '
                    'secret.', remedy=f'Run "chmod o= {path}".')
            return stream.read(_MAX_BYTES + 2)
    except OSError as error:
        raise exception.InvalidInput(
            f'{path} cannot be read: {error.strerror}.') from error


def _name(path: str) -> str:
    return 'Standard input' if path == '-' else path
