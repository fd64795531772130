# SPDX-License-Identifier: Apache-2.0
"""Everything is killed in the middle, and somebody else must tidy up.

One operation runs in a process of its own and is killed before or after one
of its side effects; a fresh process recovers; then the world must be what it
was, or what it was and the result. See :mod:`.harness`, and ``python -m
tests.faults --help`` for one kill by hand.
"""
