# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes: LUKS1 straight on RBD, without a local file.

How is in flows/encrypt.py; those from images are :meth:`Images.create`. A
volume is larger than its size by the header, as the stock driver makes them.

A passphrase is the hexadecimal text of a random key, as Cinder and os-brick
have it, unless it is said to be another.
"""

from __future__ import annotations

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import settings
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying import luks, qemu_img
from volume_rbd.driver import debris, from_file, making
from volume_rbd.flows import encrypt

LUKS = 'luks'


class Encryption:
    """The encrypted volumes of one backend.

    ``cipher`` is dm-crypt's, ``aes-xts-plain64``; ``key_size`` in bits is
    that of the cipher's key, of which xts takes two; ``provider`` is that of
    the volume type.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 maker: making.Maker, converter: qemu_img.Converter
                 ) -> None:
        self._config = config
        self._pool = cluster.pool(config.pool)
        self._maker = maker
        self._converter = converter

    def create_blank(self, volume: model.VolumeSpec, *, passphrase: str,
                     cipher: str = luks.CIPHER, key_size: int = luks.KEY_SIZE,
                     provider: str = LUKS,
                     hashing_ms: int = luks.RANDOM_KEY_MS,
                     report: progress.Progress | None = None) -> None:
        """An empty encrypted volume of ``volume.size_bytes`` and its header.

        :param hashing_ms: see :class:`luks.Encryption`.
        :raises NotSupported: the provider is not luks.
        :raises ImageExists, InvalidSize, InvalidInput, QuotaExceeded:
        """
        report = report or progress.Silent()
        encryption = luks.Encryption(passphrase, cipher, key_size, hashing_ms)
        self._check(volume, encryption, provider)
        if not volume.size_bytes or volume.size_bytes < 0:
            raise exception.InvalidSize(
                f'Volume {volume.name!r} needs a size.',
                remedy='Give a whole number of GiB, 1 or more.')
        self._maker.make_blank(volume, volume.size_bytes, report,
                               encryption=encryption)

    def create_from_file(self, volume: model.VolumeSpec, path: str,
                         source_format: str, *, passphrase: str, cipher: str,
                         key_size: int, provider: str = LUKS,
                         report: progress.Progress | None = None) -> None:
        """The disk inside of a local file as an encrypted volume.

        A volume that is there gets a new header, and with it a new master
        key: nothing of what it held can be read again. It keeps its size and
        its snapshots. What lies behind the end of the disk is not defined.

        :param source_format: Glance's word.
        :raises ImageUnsafe: the file is not what it is said to be.
        :raises InvalidSize: it does not fit, beside the header.
        """
        report = report or progress.Silent()
        encryption = luks.Encryption(passphrase, cipher, key_size)
        self._check(volume, encryption, provider)
        report.step('inspecting the file')
        file = from_file.inspect_file(self._config, path, source_format)
        if not self._pool.has_image(volume.name):
            self._maker.make_from_file(volume, file, report,
                                       encryption=encryption)
            return
        report.step('making the LUKS header')
        header = encrypt.make_header(self._pool, volume.name, encryption,
                                     self._config.cluster, self._converter,
                                     report)
        with self._pool.open(volume.name) as image:
            _check_fits(file.disk_bytes + len(header), image.size_bytes)
            image.write(header, 0)
            image.flush()
        report.step('encrypting the file')
        # Not "is zero": what is not written decrypts to anything.
        self._converter.to_disk(
            qemu_img.FileDisk(path), source_format,
            qemu_img.RBDDisk(self._pool.name, volume.name,
                             self._config.cluster),
            is_zero=False, size_bytes=file.disk_bytes, report=report,
            key=encryption.key)

    def change_passphrase(self, name: str, *, passphrase: str,
                          new_passphrase: str,
                          report: progress.Progress | None = None) -> None:
        """Let the volume open with *new_passphrase* only. Its data stays as
        it is: a clone keeps the master key of what it was cloned from, which
        has another header.

        :raises NotSupported: it has no LUKS1 header.
        :raises WrongPassphrase: *passphrase* does not open it.
        :raises ImageNotFound:
        """
        report = report or progress.Silent()
        if not new_passphrase:
            raise exception.InvalidInput('The new passphrase is empty.')
        with self._pool.open(name, read_only=True) as image:
            encrypt.get_header_bytes(image)
        report.step('changing the passphrase')
        target = qemu_img.RBDDisk(self._pool.name, name, self._config.cluster)
        self._converter.change_luks_key(
            target, passphrase.encode(), new_passphrase.encode(),
            report=report)

    def try_passphrase(self, name: str, *, passphrase: str,
                       report: progress.Progress | None = None) -> None:
        """See that *passphrase* opens the volume.

        :raises NotSupported: it has no LUKS1 header.
        :raises WrongPassphrase, ImageNotFound:
        """
        report = report or progress.Silent()
        report.step('opening the volume with its passphrase')
        encrypt.try_passphrase(self._pool, name, passphrase.encode(),
                               self._config.cluster, self._converter, report)

    def is_encrypted(self, name: str) -> bool:
        """Whether the volume begins as one that is (LUKS, 1 or 2).

        :raises ImageNotFound:
        """
        with self._pool.open(name, read_only=True) as image:
            return encrypt.is_encrypted(image)

    def get_header_bytes(self, name: str) -> int:
        """The length of the volume's LUKS1 header: by so much it is larger
        than the disk inside.

        :raises NotSupported: it has none.
        :raises ImageNotFound:
        """
        with self._pool.open(name, read_only=True) as image:
            return encrypt.get_header_bytes(image)

    def _check(self, volume: model.VolumeSpec, encryption: luks.Encryption,
               provider: str) -> None:
        debris.check_new_name(volume.name)
        settings.check(volume)
        if provider != LUKS:
            raise exception.NotSupported(
                f'The encryption provider {provider!r} is not supported.',
                remedy='Use a volume type with the provider luks.')
        encryption.check()
        plan.check_quota(volume.size_bytes or 0,
                         self._config.max_volume_bytes)


def _check_fits(needed_bytes: int, size_bytes: int) -> None:
    if needed_bytes > size_bytes:
        raise exception.InvalidSize(
            f'The disk needs {needed_bytes} bytes with its LUKS header, more '
            f'than the {size_bytes} of the volume.',
            remedy=f'Ask for {model.gib_for(needed_bytes)} GiB or more.')
