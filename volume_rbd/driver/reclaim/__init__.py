# SPDX-License-Identifier: Apache-2.0
"""Removing volumes, and what nobody needs any more; and only that.

A volume is marked and moved to the trash, out of sight at once, whatever its
size; its data goes in the background. What clones still need stays in the
trash and is removed with the last of them. Nothing is ever renamed.

What else comes to rest is found by sources, a file each: :mod:`.trash`,
:mod:`.images`, :mod:`.bases`, :mod:`.temporary`, :mod:`.volumes`. Each knows
the proof that a thing is nobody's (:mod:`.proofs`), and asks for it again at
the moment when it removes it.
"""

from volume_rbd.driver.reclaim.bases import Base
from volume_rbd.driver.reclaim.finder import Finder
from volume_rbd.driver.reclaim.items import Reclaimable, Source
from volume_rbd.driver.reclaim.reclaimer import Deletion, Reclaimer

__all__ = ['Base', 'Deletion', 'Finder', 'Reclaimable', 'Reclaimer', 'Source']
