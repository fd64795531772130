# SPDX-License-Identifier: Apache-2.0
"""What the rest of the house may ask of Glance: the contract.

Two sessions are kept apart. The *user's* acts for whoever asked (the token of
the request, or the OS_* variables of the command line) and sees what they may
see. The *service's* has the credentials of ``[glance]`` (or of
``[service_user]``) and is used only for what a user may not ask: the stores'
details, an image's locations, and, as X-Service-Token beside the user's
token, to register a location. Without service credentials those calls are
tried with the user's.

The real one is :class:`volume_rbd.glance.client.GlanceClient`, an in-memory
one is in ``tests/fakes``; the same contract tests run on both.

Errors
    GlanceImageNotFound (404 on an image), GlanceForbidden (403),
    GlanceUnauthorized (401), GlanceConflict (409), QuotaExceeded (413),
    ApiNotImplemented (404 or 501 on an API), GlanceUnavailable (no
    connection, 5xx, reset), InvalidInput (400), DataCorrupted (hash
    mismatch). Calls that are idempotent were retried, bounded, before
    GlanceUnavailable is raised.

Units
    Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from volume_rbd import model


class Readable(Protocol):
    """What an upload reads from."""

    def read(self, size: int = -1, /) -> bytes | None: ...


class Glance(Protocol):
    """One Glance, as one user with one service behind them."""

    # -- the user's session -------------------------------------------------
    def who(self) -> tuple[str | None, str | None]:
        """The ids of the user's project and of the user, as far as they are
        known; nothing is asked that was not asked before."""

    def get_image(self, image_id: str) -> model.GlanceImage:
        """Locations are those Glance shows the user (mostly none)."""

    def create_image(self, *, image_id: str, name: str, disk_format: str,
                     container_format: str,
                     properties: Mapping[str, str] | None = None,
                     min_disk_gib: int = 0,
                     visibility: str | None = None) -> model.GlanceImage:
        """A queued record. GlanceConflict if the id is taken."""

    def delete_image(self, image_id: str) -> None:
        """GlanceImageNotFound if it is gone; GlanceConflict if in use."""

    def upload(self, image_id: str, data: Readable, *, size_bytes: int,
               store_id: str | None = None) -> None:
        """Send the image's bytes; *data* has ``read(n)``. Not retried.

        Returns when Glance has made the image active. An exception that
        *data* raises ends the transfer and is raised; the image is then
        queued again, or becomes so as soon as Glance notices.

        :raises DataCorrupted: *data* gave fewer bytes than *size_bytes*.
        :raises GlanceConflict: the image is not queued.
        :raises StoreNotFound:
        """

    def download(self, image_id: str, chunk_bytes: int = 4 * model.MIB
                 ) -> Generator[bytes, None, None]:
        """The image's bytes in chunks of exactly *chunk_bytes*, the last one
        shorter. Verified against os_hash_value, or checksum, as they pass;
        an image that has neither (a location just registered) by its size.

        Nothing is asked before the first ``next()``; ``close()`` it to stop
        early, that ends the connection.

        :raises DataCorrupted: at the end, on a mismatch or a short read.
        :raises GlanceImageNotUsable: the image has no data.
        """

    def register_location(self, image_id: str, url: str,
                          hashes: model.Hashes | None = None) -> None:
        """POST the location with the user's token and the service's.

        Glance accepts (202) whatever the URL says, except http://, and works
        in the background: poll the image. Not retried blindly: after a lost
        connection the caller reads the image again.

        :param hashes: of the very bytes that were written, or None: a wrong
            one would make Glance delete the rbd_image. With do_secure_hash
            off it becomes the image's; with it on Glance reads everything
            and compares before the image is active. The checksum is not
            sent: this API takes none.

        :raises ApiNotImplemented: Glance before 2.17.
        :raises GlanceForbidden, GlanceConflict, InvalidInput, QuotaExceeded:
        """

    def register_location_legacy(self, image_id: str, url: str,
                                 hashes: model.Hashes | None = None
                                 ) -> None:
        """PATCH the location (show_multiple_locations), synchronous.

        :param hashes: become the image's, the checksum too; nobody compares
            them. GlanceConflict where Glance hashes by another algorithm.
        """

    def copy_image(self, image_id: str, store_ids: Sequence[str]) -> None:
        """Have an active image copied into more stores (the import method
        copy-image). Returns when Glance has begun: poll the image's
        ``stores``, and its properties os_glance_importing_to_stores and
        os_glance_failed_import. Not retried.

        :raises GlanceForbidden: the policy copy_image is mostly for the
            role admin only.
        :raises GlanceConflict: something is being imported already; or the
            image is not active.
        :raises InvalidInput: it is there already; or Glance does not have
            the method enabled.
        """

    # -- the service's session ----------------------------------------------
    def get_stores(self) -> list[model.StoreInfo]:
        """stores-info-detail. Needs the role admin or service.

        :raises GlanceForbidden: the token is neither admin nor service.
        :raises ApiNotImplemented: Glance has no enabled_backends.
        :raises GlanceUnavailable: a store driver is broken (500).
        """

    def get_locations(self, image_id: str) -> tuple[str, ...]:
        """The URLs of all locations; where the API or the policy forbids
        it, those that the image itself shows (locations, direct_url)."""

    def get_tasks(self, image_id: str) -> list[Mapping[str, str]]:
        """The image's tasks, newest last: id, type, status, message,
        request_id, and url, the location that was to be registered.

        status ends as ``success`` or ``failure``. Glance's clock counts
        seconds: of two tasks in one second either may be last, so tell them
        by their url. The message says no more than that it failed; the
        reason is in Glance's log, under request_id. Empty where Glance does
        not tell.
        """

    def has_image(self, image_id: str) -> bool:
        """Whether Glance knows the image, whoever owns it.

        :raises GlanceForbidden: neither session has the role admin, so that
            another project's image would look like none.
        """
