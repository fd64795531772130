# SPDX-License-Identifier: Apache-2.0
"""ceph.conf and the keyrings of the sandbox's cluster."""

from __future__ import annotations

import base64
import os
import struct
import time
from collections.abc import Mapping

from volume_rbd.sandbox import caps, files
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.state import State

_GIB = 1024 ** 3
_AES = 1


def make_key() -> str:
    """A new cephx secret: type, creation time, length and 16 random bytes."""
    header = struct.pack('<hiih', _AES, int(time.time()), 0, 16)
    return base64.b64encode(header + os.urandom(16)).decode()


def get_mon_addresses(ports: Mapping[str, int]) -> str:
    """The monitor's addresses in both protocols."""
    return (f'[v2:127.0.0.1:{ports["mon_v2"]},'
            f'v1:127.0.0.1:{ports["mon_v1"]}]')


def render_conf(layout: Layout, state: State) -> str:
    """The one ceph.conf, for daemons and clients alike."""
    common = {
        'fsid': state.fsid,
        'mon host': get_mon_addresses(state.ports),
        'auth cluster required': 'cephx',
        'auth service required': 'cephx',
        'auth client required': 'cephx',
        'keyring': layout.ceph / 'ceph.$name.keyring',
        'run dir': layout.sockets,
        'crash dir': layout.ceph / 'crash',
        'osd pool default size': 1,
        'osd pool default min size': 1,
        'osd pool default pg autoscale mode': 'off',
        'osd crush chooseleaf type': 0,
        'mon allow pool size one': True,
        'mon allow pool delete': True,
        'mon max pg per osd': 1000,
    }
    mon = _daemon(layout, 'mon') | {
        # The fix of CVE-2021-20288; the default still warns.
        'auth allow insecure global id reclaim': False,
        # One OSD is what a sandbox is; a full laptop is not our business.
        'mon warn on pool no redundancy': False,
        'mon data avail warn': 5,
        'mon data avail crit': 1,
    }
    if state.options.quick_monitor:
        mon |= {'paxos propose interval': 0.05, 'paxos min wait': 0.01}
    osd = _daemon(layout, 'osd') | {
        'osd memory target': _GIB,
        'osd memory target autotune': False,
        'bluestore block size': state.options.osd_size_gib * _GIB,
        # For what a removed snapshot held it pauses 5 s an object on a disk
        # that turns, which it takes a file for.
        'osd snap trim sleep hdd': 0,
    }
    return files.render_ini({
        'global': common, 'mon': mon, 'mgr': _daemon(layout, 'mgr'),
        'osd': osd,
    })


def _daemon(layout: Layout, kind: str) -> dict[str, object]:
    return {
        f'{kind} data': layout.ceph / kind,
        # Not in the data folder: a monitor's mkfs wants it empty, and says
        # so with exit status 0.
        'keyring': layout.ceph / f'ceph.{kind}.keyring',
        'log file': layout.log(kind),
        'admin socket': layout.socket(kind),
        'pid file': '',
    }


def write_keyrings(layout: Layout, options: Options) -> None:
    """Make every key, and ``initial.keyring`` for the monitor to begin with.

    A monitor takes keys *and* caps from the keyring of its mkfs, so that no
    ``ceph auth`` call is needed later.
    """
    entities = dict(caps.DAEMONS) | caps.get_client_caps(options)
    keys = {entity: make_key() for entity in entities}
    initial = ''.join(
        _render_entity(entity, keys[entity], entities[entity])
        for entity in entities
    )
    files.write_private(layout.ceph / 'initial.keyring', initial)
    for entity, key in keys.items():
        kind = entity.partition('.')[0]
        owner = kind if entity in caps.DAEMONS else entity
        files.write_private(layout.ceph / f'ceph.{owner}.keyring',
                            _render_entity(entity, key, {}))


def _render_entity(entity: str, key: str, allowed: caps.Caps) -> str:
    lines = [f'[{entity}]', f'\tkey = {key}']
    lines += [f'\tcaps {kind} = "{cap}"' for kind, cap in allowed.items()]
    return '\n'.join(lines) + '\n'
