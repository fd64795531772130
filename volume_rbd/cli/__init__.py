# SPDX-License-Identifier: Apache-2.0
"""The command line, one file per command."""

import warnings

# taskflow looks whether eventlet is there; who types a command can do nothing
# about what libraries say of each other.
warnings.filterwarnings('ignore', message='\\s*Eventlet is deprecated')
warnings.filterwarnings('ignore', category=DeprecationWarning)
