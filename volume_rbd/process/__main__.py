# SPDX-License-Identifier: Apache-2.0
"""``python -m volume_rbd.process BACKEND FD``; started by the client only.

The backend's name is there for those who look at the list of processes.
"""

from __future__ import annotations

import sys

from volume_rbd.process import server

if __name__ == '__main__':
    server.main(int(sys.argv[2]))
