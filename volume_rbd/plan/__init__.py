# SPDX-License-Identifier: Apache-2.0
"""Which way an operation goes, and why. Pure: facts in, a plan out.

A plan is an ordered list of choices; the flow tries the first, and the next
one only where the first one says :class:`~volume_rbd.exception.NotThisWay`.
What was ruled out stands beside it with its reason, so that the same object
feeds the log, the result and ``volume-rbd plan``.
"""

from volume_rbd.plan.create import (
    READABLE_FORMATS,
    BaseFacts,
    CreateFacts,
    LocationFacts,
    base_bytes,
    check_image_usable,
    check_quota,
    judge_location,
    plan_create,
    volume_size,
)
from volume_rbd.plan.fetch import FetchFacts, plan_fetch
from volume_rbd.plan.upload import (
    WRITABLE_FORMATS,
    UploadFacts,
    choose_store,
    plan_upload,
)
from volume_rbd.plan.words import (
    BUILT,
    SENTENCES,
    Choice,
    Operation,
    Plan,
    Reason,
    Strategy,
    is_worth_trying,
)

__all__ = [
    'BUILT',
    'READABLE_FORMATS',
    'SENTENCES',
    'WRITABLE_FORMATS',
    'BaseFacts',
    'Choice',
    'CreateFacts',
    'FetchFacts',
    'LocationFacts',
    'Operation',
    'Plan',
    'Reason',
    'Strategy',
    'UploadFacts',
    'base_bytes',
    'check_image_usable',
    'check_quota',
    'choose_store',
    'is_worth_trying',
    'judge_location',
    'plan_create',
    'plan_fetch',
    'plan_upload',
    'volume_size',
]
