# SPDX-License-Identifier: Apache-2.0
"""``python -m volume_rbd.process BACKEND FD``; started by the client only.

The backend's name is there for those who look at the list of processes.
"""

from __future__ import annotations

import sys

if __name__ == '__main__':
    # Libraries that would use it where it is installed take it for missing:
    # nothing here is ever green.
    sys.modules['eventlet'] = None  # type: ignore[assignment]

    from volume_rbd.process import server

    server.main(int(sys.argv[2]))
