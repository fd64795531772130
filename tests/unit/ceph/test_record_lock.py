# SPDX-License-Identifier: Apache-2.0
"""Answers of the OSD class ``lock``, as an OSD of Ceph 16 gave them."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volume_rbd import exception
from volume_rbd.ceph import record_lock


def _structure(content):
    return struct.pack('<BBI', 1, 1, len(content)) + content


def _text(value):
    return struct.pack('<I', len(value)) + value


def _answer(*, address=b'\x01\x01\x01\0\0\0\0', count=1, owner=b'job'):
    holder = _structure(struct.pack('<Bq', 8, 4711) + _text(owner))
    facts = _structure(struct.pack('<II', 100, 500_000_000) + address
                       + _text(b'node-1'))
    return _structure(struct.pack('<I', count)
                      + (holder + facts if count else b'')
                      + b'\x01' + _text(b''))


@pytest.mark.parametrize('address', [
    b'\x01' + _structure(b'one'),
    b'\x02' + struct.pack('<I', 2) + 2 * (b'\x01' + _structure(b'each'))])
def test_the_holder_is_read(address):
    holder = record_lock.decode(_answer(address=address))
    assert (holder.client, holder.owner, holder.expires_s, holder.note) == (
        'client.4711', 'job', 100.5, 'node-1')


def test_an_owner_that_is_no_text_is_one_all_the_same():
    holder = record_lock.decode(_answer(owner=b'\xff\xfe'))
    assert (holder.owner, holder.note) == ('\ufffd\ufffd', 'node-1')


def test_nobody_has_it():
    assert record_lock.decode(_answer(count=0)) is None


@given(st.binary(max_size=80) | st.integers(0, 70).map(
    lambda length: _answer()[:length]))
def test_anything_else_is_a_clear_error_or_an_answer(answer):
    with contextlib.suppress(exception.DataCorrupted):
        record_lock.decode(answer)
