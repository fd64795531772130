# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor needs to open a volume."""

from __future__ import annotations

import dataclasses

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster


@dataclasses.dataclass(frozen=True)
class Connection:
    """Names and order are those that libvirt and os-brick take.

    There is no key in it: whoever may see a volume's connection would have
    it (OSSN-0085). The hypervisor has its own, of *auth_username*.

    :param name: ``pool/volume``.
    :param hosts: of the monitors, IPv6 without brackets: who uses them puts
        them there.
    :param ports: one for each host.
    :param secret_uuid: of the libvirt secret.
    """

    name: str
    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    cluster_name: str
    auth_enabled: bool
    auth_username: str | None
    secret_type: str
    secret_uuid: str
    discard: bool


class Connections:
    """How the volumes of one backend are reached."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster

    def monitors(self) -> list[tuple[str, str]]:
        """Host and port of each; IPv6 without brackets.

        :raises ClusterUnavailable:
        """
        return [_split(address) for address in self._cluster.monitors()]

    def get(self, volume: str) -> Connection:
        """Touches nothing, and runs no program.

        :raises ImageNotFound: no such volume.
        :raises ClusterUnavailable: and what else Ceph says.
        """
        config = self._config
        if not self._cluster.pool(config.pool).has_image(volume):
            raise exception.ImageNotFound(
                f'There is no volume {volume!r} in pool {config.pool!r}.')
        monitors = self.monitors()
        user = config.attach_user or config.cluster.user
        return Connection(
            name=f'{config.pool}/{volume}',
            hosts=tuple(host for host, _ in monitors),
            ports=tuple(port for _, port in monitors),
            cluster_name=config.cluster.cluster_name,
            auth_enabled=user is not None, auth_username=user,
            secret_type='ceph',  # noqa: S106 - libvirt's word, no secret
            secret_uuid=config.secret_uuid or self._cluster.fsid,
            discard=True)


def _split(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(':')
    return host.strip('[]'), port
