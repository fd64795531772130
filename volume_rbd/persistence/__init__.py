# SPDX-License-Identifier: Apache-2.0
"""taskflow's persistence on RADOS: ``rados://``.

Any user of taskflow can have it::

    from taskflow.persistence import backends

    backend = backends.fetch({
        'connection': 'rados://POOL/NAMESPACE?user=cinder&conf=PATH'})

What is read is untrusted: whoever may write to the pool may write there. It
is JSON, and nothing in it is ever imported, called or unpickled here. Do not
hand what was read to taskflow's ``flow_from_detail`` or ``load_from_detail``:
they import and call what a record names.
"""

from volume_rbd.persistence.rados import DEFAULT_NAMESPACE, RadosBackend

__all__ = ['DEFAULT_NAMESPACE', 'RadosBackend']
