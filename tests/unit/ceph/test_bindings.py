# SPDX-License-Identifier: Apache-2.0
"""Without Ceph's bindings everything can be imported, nothing used."""

import subprocess
import sys

import pytest

_WITHOUT = """
import sys
sys.modules[{missing!r}] = None
from volume_rbd import exception
from volume_rbd.ceph import connection, interface
from volume_rbd.opts import ClusterConfig
cluster = connection.connect(ClusterConfig(user='cinder'))
pool = cluster.pool('volumes')
try:
    cluster.fsid
except exception.ConfigurationError as error:
    print(error)
"""


def _run(code):
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True,
        check=True).stdout


def test_what_is_missing_and_how_to_get_it_is_one_line():
    output = _run(_WITHOUT.format(missing='rados'))

    assert output.count('\n') == 1
    for wanted in ("'rados'", 'python3-rbd python3-rados', 'ln -s'):
        assert wanted in output.replace(' and ', ' ')


@pytest.mark.parametrize('module', ['interface', 'connection', 'pool'])
def test_nothing_of_ceph_is_loaded_before_it_is_used(module):
    output = _run(f'import sys, volume_rbd.ceph.{module}; '
                  'print("rbd" in sys.modules, "rados" in sys.modules)')

    assert output.strip() == 'False False'
