# SPDX-License-Identifier: Apache-2.0
"""The console script. Ctrl-C is heard from the first moment on, also while
everything is imported, which takes a second."""

import sys

_CANCELLED = 130


def main() -> int:
    """:returns: an exit code of volume_rbd.cli.main."""
    try:
        from volume_rbd.cli import main as application
        return application.main()
    except KeyboardInterrupt:
        sys.stderr.write('volume-rbd: Cancelled before anything was done.\n')
        return _CANCELLED


if __name__ == '__main__':
    sys.exit(main())
