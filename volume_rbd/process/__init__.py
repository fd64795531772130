# SPDX-License-Identifier: Apache-2.0
"""A backend's driver in a process of its own.

For services that share an interpreter with much else: cinder-volume patches
``threading`` with eventlet, answers RPC from the same interpreter, and must
not die with librbd. So it holds none: :class:`client.BackendProcess` starts
one child a backend, which runs the same :class:`~volume_rbd.driver.RBDDriver`
as the command line does, with the operating system's threads and nothing
patched. What the service sees has the driver's own methods.

The way of one call::

    service                                  child
    a pair of sockets, one of them sent  ->  a thread takes it
    {subject, method, arguments, caller} ->  driver.subject.method(…)
    the service's log                    <-  {log: …}  …
    a result, or the error raised        <-  {result: …} | {error: …}

A call is cancelled by closing its socket; a service that dies closes them
all, and the child undoes what was under way and ends. There is no address to
listen on, so nobody else can ask. The reason for all this, with what was
measured, is decision 0007.
"""
