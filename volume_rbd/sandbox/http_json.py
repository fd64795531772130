# SPDX-License-Identifier: Apache-2.0
"""The smallest HTTP client for JSON on loopback.

Of the standard library, so that no proxy from the environment gets between
and the sandbox's start does not pay for a client library's import.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

from volume_rbd import exception


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server said. ``body`` is {} when it said nothing."""

    status: int
    headers: Mapping[str, str]
    body: Any


def get_status(port: int, path: str, *, timeout_s: float = 5.0) -> int:
    """The status of a GET on a loopback port.

    :raises OSError: no server, or no answer in time.
    """
    connection = HTTPConnection(
        '127.0.0.1', port, timeout=timeout_s)
    try:
        connection.request('GET', path)
        return connection.getresponse().status
    except HTTPException as error:
        raise ConnectionResetError(str(error)) from error
    finally:
        connection.close()


class JSONClient:
    """Requests to one loopback server; close it after use."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self._connection = HTTPConnection(
            '127.0.0.1', port, timeout=timeout_s)
        self.headers: dict[str, str] = {'Accept': 'application/json'}

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request; any answer below 400 is a success.

        :raises SandboxError: no answer, or a refusal.
        """
        headers = dict(self.headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers['Content-Type'] = 'application/json'
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as error:
            raise exception.SandboxError(
                f'{method} {path} got no answer: {error}.',
                remedy='Look at the logs in the sandbox folder.',
            ) from error
        if response.status >= 400:
            raise exception.SandboxError(
                f'{method} {path} was refused with {response.status}: '
                f'{text[:500].decode("utf-8", "replace")}.',
                remedy='Look at the logs in the sandbox folder.',
            )
        return Answer(response.status, dict(response.getheaders()),
                      json.loads(text) if text else {})
