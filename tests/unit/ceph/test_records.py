# SPDX-License-Identifier: Apache-2.0
"""What the bindings give of a record that anybody may have written to."""

from __future__ import annotations

from collections.abc import Iterator

from volume_rbd.ceph import records


class _Pairs(Iterator[tuple[str, bytes | None]]):
    """As the bindings' iterator: it goes on behind a key that is no text."""

    def __init__(self, *pairs: tuple[bytes, bytes | None]) -> None:
        self._pairs = iter(pairs)

    def __next__(self) -> tuple[str, bytes | None]:
        key, value = next(self._pairs)
        return key.decode(), value


def test_a_key_that_is_no_text_hides_no_other() -> None:
    count, found = records._read_texts(_Pairs(
        (b'a', b'1'), (b'job.\xff', b'2'), (b'b', b'\xff'), (b'c', None)))
    assert count == 4
    assert found == {'a': '1', 'b': '\ufffd', 'c': ''}
