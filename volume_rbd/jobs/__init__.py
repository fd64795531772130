# SPDX-License-Identifier: Apache-2.0
"""Who runs what, and what becomes of it when that one is killed.

A *job* is one run of one operation. It is written down before anything is
touched, belongs to one process by a lease, and is settled by another when the
lease is over: gone on with, or undone. See the decision record 0018.
"""
