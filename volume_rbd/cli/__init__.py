# SPDX-License-Identifier: Apache-2.0
"""The command line, one file per command."""

import os
import warnings

# taskflow looks whether eventlet is there, which then brings a resolver of its
# own along: a fifth of the time that it takes to start, for nothing.
os.environ.setdefault('EVENTLET_NO_GREENDNS', 'yes')
# Who types a command can do nothing about what libraries say of each other.
warnings.filterwarnings('ignore', message='\\s*Eventlet is deprecated')
warnings.filterwarnings('ignore', category=DeprecationWarning)
