# SPDX-License-Identifier: Apache-2.0
"""One backend: what its volumes, snapshots and images can do."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from oslo_log import log as logging

from volume_rbd import exception, opts, signatures
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying import qemu_img
from volume_rbd.copying.bandwidth import Bandwidth
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import budget
from volume_rbd.driver.background import Flattener
from volume_rbd.driver.bases import Bases
from volume_rbd.driver.connection import Connections
from volume_rbd.driver.encryption import Encryption
from volume_rbd.driver.from_file import FromFile
from volume_rbd.driver.groups import Groups
from volume_rbd.driver.images import Images
from volume_rbd.driver.making import Maker
from volume_rbd.driver.manage import Manage
from volume_rbd.driver.migration import Migration
from volume_rbd.driver.performing import Performer
from volume_rbd.driver.qos import QoS
from volume_rbd.driver.reclaim import Reclaimer
from volume_rbd.driver.reclaim.jobs import StuckJobs
from volume_rbd.driver.snapshots import Snapshots
from volume_rbd.driver.stats import Stats
from volume_rbd.driver.volumes import Volumes
from volume_rbd.flows.base import Tools
from volume_rbd.glance.interface import Glance
from volume_rbd.jobs.job import Job
from volume_rbd.jobs.jobs import Jobs

LOG = logging.getLogger(__name__)


class RBDDriver:
    """:param open_glance: called when Glance is first needed: who only
        handles volumes and snapshots needs no credentials.
    :param open_certificates: the same for those of signed images.
    :param converter: qemu-img if None.

    Leaving the ``with`` block waits for the work in the background; after an
    error it is stopped.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance],
                 open_certificates: Callable[[], signatures.Certificates]
                 = signatures.NoCertificates,
                 converter: qemu_img.Converter | None = None) -> None:
        converter = converter or qemu_img.QemuImg(
            check_room=self._check_room)
        copier = Copier(config.copy_operations,
                        Bandwidth(config.copy_bytes_per_s),
                        config.verify_copies)
        self.config = config
        self.cluster = cluster
        self.budget = budget.make(config, cluster)
        performer = Performer(config, cluster)
        self.flattener = Flattener(cluster, config.pool,
                                   config.concurrent_flattens, self.budget,
                                   performer)
        #: What runs, and what was left by processes that are gone.
        self.jobs = Jobs(config, cluster, self._make_tools)
        self.reclaimer = Reclaimer(config, cluster, open_glance,
                                   self.flattener, self.budget, performer,
                                   is_job_open=self.jobs.is_open,
                                   is_claimed=self.jobs.is_claimed)
        self.reclaimer.finder.sources.append(
            StuckJobs(self.jobs, config.pool))
        self.flattener.freed = self.reclaimer.release
        self.stats = Stats(config, cluster)
        self.connections = Connections(config, cluster)
        self.qos = QoS(config, cluster)
        self.manage = Manage(config, cluster)
        maker = Maker(config, cluster, self.jobs, self.flattener, copier,
                      converter)
        self.volumes = Volumes(config, cluster, self.reclaimer, self.jobs,
                               maker, resized=self.stats.forget)
        self.migration = Migration(config, cluster, self.reclaimer, copier)
        self.groups = Groups(config, cluster)
        self.snapshots = Snapshots(config, cluster, self.reclaimer,
                                   self.jobs, self.flattener,
                                   resized=self.stats.forget, copier=copier)
        files = FromFile(config, cluster, converter, maker)
        self.encryption = Encryption(config, cluster, maker, converter)
        self.images = Images(config, cluster, open_glance, self.flattener,
                             open_certificates, converter, files,
                             Bases(config, cluster, self.reclaimer), copier,
                             self.jobs)

    def _make_tools(self, job: Job) -> Tools:
        return self.images.make_tools(job)

    def check(self) -> None:
        """Try the connection and the pool.

        :raises ClusterUnavailable, PoolNotFound, CephPermissionDenied:
        """
        self.cluster.pool(self.config.pool).check()

    def _check_room(self, pool: str) -> None:
        try:
            usage = self.cluster.pool(pool).usage()
        except exception.VolumeRBDError as error:
            LOG.warning('Whether pool %s is full is not known: %s', pool,
                        error)
            return
        if not usage.max_available_bytes:
            raise exception.NoSpace(f'Pool {pool!r} is full.')

    def get_fsid(self) -> str:
        """Of the cluster that the backend is in."""
        return self.cluster.fsid

    def close(self, *, wait: bool = True) -> None:
        """:param wait: for the work in the background, as far as its hours
            and the cluster let it go on; else what runs is stopped within
            seconds. What is left is found again by the next process."""
        self.jobs.close(wait=wait)
        self.budget.leave_rest()
        self.flattener.close(wait=wait)
        self.reclaimer.close(wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close(wait=kind is None)
