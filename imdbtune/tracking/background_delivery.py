"""Delivers in a thread, so that a search never waits for the tracking store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imdbtune.errors import Deleted, DiskFull, Interrupted, NotDelivered
from imdbtune.files import is_disk_full
from imdbtune.tracking.connection import (
    failure_reason,
    hide_secrets,
    is_emptied,
    is_of_store,
    redact_error,
)
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import (
    DeliveryCache,
    Publish,
    deliver,
    is_refusal,
    is_temporary,
)
from imdbtune.tracking.writer import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

POLL_S = 0.3
RETRY_EVERY_S = 10.0
PUBLISH_EVERY_S = 15.0
# How long a search that has ended waits for a store that is away, from when it went away.
PATIENCE_S = 120.0
STAYS_AWAY_S = 300.0  # after this an outage is no hiccup


@dataclass
class BackgroundDelivery:
    """Delivers an outbox while a search runs, and the rest at its end.

    Args:
        client: of the tracking store.
        outbox: where the calls are.
        parent: run id of the search.
        varied: columns of the page that is updated while the search runs; ``None``: no page.
        notify: called with a line when the store goes away, and when it is back.
        report: whether a search that ends well gets a report.
        publish: writes the page of the search; needed only where a page is due.
        report_outage: called with a line, once, when the store stays away.
    """

    client: MlflowClient
    outbox: Outbox
    parent: str
    varied: list[str] | None
    notify: Callable[[str], None]
    report: bool = False
    publish: Publish | None = None
    report_outage: Callable[[str], None] | None = None
    delivered: int = 0
    _cache: DeliveryCache = field(init=False)
    _deleted: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _away_since: float | None = None
    _is_outage_reported: bool = False
    _publish_at: float = 0.0

    def __post_init__(self) -> None:
        """Note what an earlier process may have delivered."""
        self._cache = DeliveryCache.at_start(self.outbox)

    def start(self) -> None:
        """Begin to deliver."""
        self._publish_at = time.monotonic() + PUBLISH_EVERY_S
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        wait = POLL_S
        while not self._stopped.wait(wait):
            try:
                self._deliver()
                self._publish_if_due()
                self._note_success()
                wait = POLL_S
            except Exception as error:
                self._note_failure(error)
                wait = min(2 * wait, RETRY_EVERY_S)

    def _deliver(self) -> None:
        self.delivered += deliver(
            self.client, self.outbox, self.parent, self._cache, self._say_deleted, self.publish
        )

    def _note_success(self) -> None:
        """Say that the store is back, if it was away."""
        if self._away_since is not None:
            self._away_since, self._is_outage_reported = None, False
            self.notify("the tracking store has received everything that was waiting for it.")

    def _say_deleted(self, run_id: str) -> None:
        if run_id in self._deleted:
            return
        self._deleted.add(run_id)
        self.notify(
            f"run {run_id} was deleted in MLflow, and stays deleted; its remaining data is kept. "
            f"To restore it: mlflow runs restore --run-id {run_id}, then imdbtune sync "
            f"{self.parent}"
        )

    def _publish_if_due(self) -> None:
        started = time.monotonic()
        if self.publish is None or self.varied is None or started < self._publish_at:
            return
        self.publish(self.client, self.parent, self.varied, report=False, final=False)
        took = time.monotonic() - started
        self._publish_at = time.monotonic() + max(PUBLISH_EVERY_S, 20 * took)

    def _note_failure(self, error: Exception) -> float:
        """Say once that deliveries fail; return for how many seconds they have failed."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            self.notify(f"{self._described(error)}; the data is kept here, and sent again later.")
        away_s = time.monotonic() - self._away_since
        if away_s >= STAYS_AWAY_S and self.report_outage and not self._is_outage_reported:
            self._is_outage_reported = True
            self.report_outage(f"for {away_s / 60:.0f} min, {self._described(error)}")
        return away_s

    def _described(self, error: Exception) -> str:
        if isinstance(error, Deleted):
            return str(error)
        uri = str(self.client.tracking_uri)
        reason = redact_error(failure_reason(error), uri)
        if is_disk_full(error):
            return f"no room is left on the disk ({reason[:200]})"
        if is_emptied(uri):
            return f"the tracking store {hide_secrets(uri)} was deleted or emptied"
        if not (is_of_store(error) or is_temporary(error) or isinstance(error, OSError)):
            return f"results cannot be delivered ({type(error).__name__}: {reason[:200]})"
        trouble = "refuses something" if is_refusal(error) else "cannot be written"
        return f"the tracking store {hide_secrets(uri)} {trouble} ({reason[:200]})"

    def finish(self, patience_s: float = 0.0) -> None:
        """Stop the thread, and deliver the rest.

        Args:
            patience_s: how long to wait for a store that is away, from when it went away.

        Raises:
            NotDelivered: something could not be delivered.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        wait = POLL_S
        while True:
            try:
                self._deliver()
                return self._note_success()
            except Exception as error:
                lost = is_emptied(str(self.client.tracking_uri))
                hopeless = not patience_s or lost or not is_temporary(error)
                if hopeless or self._note_failure(error) + wait > patience_s:
                    raise NotDelivered(
                        f"{self._described(error)}; the remaining data is kept in "
                        f"{self.outbox.folder}. Send it with: imdbtune sync {self.parent}"
                        f"{' --restore' if lost else ''}"
                    ) from error
            time.sleep(wait)
            wait = min(2 * wait, RETRY_EVERY_S)


@contextmanager
def deliver_in_background(
    delivery: BackgroundDelivery, continued_by: str = "", before_s: float = 0.0
) -> Iterator[None]:
    """Deliver while the block runs; however it ends, end the parent run and deliver the rest.

    Args:
        delivery: of the search.
        continued_by: what continues the block's task after an interrupt; empty: nothing does.
        before_s: seconds that earlier runs of the same search took.

    Raises:
        Interrupted: for a ``KeyboardInterrupt`` of the block.
        NotDelivered: the block ended well, but something could not be delivered.
        DiskFull: the disk is full.
    """
    began = time.monotonic() - before_s
    status, reason = "FINISHED", ""
    delivery.start()
    try:
        yield
    except KeyboardInterrupt as error:
        status, reason = "KILLED", "interrupted"
        how = f" {continued_by} continues it." if continued_by else ""
        raise Interrupted(f"Interrupted: what was running is closed as KILLED.{how}") from error
    except BaseException as error:
        status, reason = "FAILED", str(error) or type(error).__name__
        if is_disk_full(error) and not isinstance(error, DiskFull):
            raise DiskFull(f"no room is left on the disk ({error})") from error
        raise
    finally:
        # An error of closing must not hide the one that ended the block.
        with suppress(Exception) if status != "FINISHED" else nullcontext():
            try:
                _end(delivery, status, reason, time.monotonic() - began)
            finally:  # the thread must not outlive the block
                delivery.finish(PATIENCE_S if status == "FINISHED" else 0.0)


def _end(delivery: BackgroundDelivery, status: str, reason: str, seconds: float) -> None:
    run = Run(delivery.outbox, delivery.parent)
    try:
        run.log({"search_seconds": seconds})
        run.end(status, reason)
    except OSError:  # no room on this disk; the store may have some
        Run(delivery.client, delivery.parent).end(status, reason)
        raise
    if delivery.varied is not None:
        report = delivery.report and status == "FINISHED"
        delivery.outbox.publish(delivery.parent, delivery.varied, report)
