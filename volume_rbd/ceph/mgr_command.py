# SPDX-License-Identifier: Apache-2.0
"""One command to Ceph's manager, in a process of its own: ``python -m``.

librados 16.2 gives up a command to the manager after
``rados_mon_op_timeout``, and when the answer comes all the same, it writes it
to where the caller had waited: the process crashes, or worse (tried). This
one may.

Reads the request from standard input, as JSON: ``rados`` (arguments of
``rados.Rados``) and ``command``. Writes ``code`` and ``output``, or, where
there is no connection, ``error``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from volume_rbd.ceph import bindings


def main() -> None:
    request: dict[str, Any] = json.load(sys.stdin)
    rados = bindings.rados()
    try:
        handle = rados.Rados(**request['rados'])
        handle.connect()
        code, output, _status = handle.mgr_command(
            json.dumps(request['command']), b'')
        answer = {'code': code, 'output': bytes(output).decode()}
    except rados.Error as error:
        answer = {'error': f'{type(error).__name__}: {error}'}
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    # What may still come must not find us.
    os._exit(0)


if __name__ == '__main__':
    main()
