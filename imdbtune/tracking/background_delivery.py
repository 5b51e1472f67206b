"""Delivers in the background of a search, so that nobody there waits for the tracking store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imdbtune.errors import Deleted, DiskFull, NotDelivered
from imdbtune.files import is_disk_full
from imdbtune.tracking.connection import failure_reason, hide_secrets, redact_error, short_timeouts
from imdbtune.tracking.outbox import Outbox
from imdbtune.tracking.outbox_delivery import (
    DeliveryCache,
    deliver,
    is_refusal,
    is_temporary,
    publish_page,
)
from imdbtune.tracking.writer import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOOK_EVERY_S = 0.3
# A run that MLflow has not heard of is given so long to end; then it is shown as under way.
YOUNG_S = 2.0
RETRY_EVERY_S = 10.0
PUBLISH_EVERY_S = 15.0
# How long a search that is through waits for a store that is away, from when it went.
PATIENCE_S = 120.0
# How long one request may take; a server that takes a model needs some time.
REQUEST_S = 30


@dataclass
class BackgroundDelivery:
    """Delivers while a search runs, and what is left at its end.

    Args:
        client: of the store.
        outbox: where the calls are.
        parent: run id of the search.
        varied: columns of the page that is kept up to date; ``None``: there is no page.
        say: called with a line when the store goes away, and when it is back.
        report: whether a search that ends well gets one.
        alone: nobody else ends the runs of the outbox, such as a worker elsewhere.
    """

    client: MlflowClient
    outbox: Outbox
    parent: str
    varied: list[str] | None
    say: Callable[[str], None]
    report: bool = False
    alone: bool = True
    made: int = 0
    _memory: DeliveryCache = field(init=False)
    _deleted: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _away_since: float | None = None
    _publish_at: float = 0.0

    def __post_init__(self) -> None:
        """Note what an earlier process may have delivered."""
        self._memory = DeliveryCache.at_start(self.outbox, self.alone)

    def start(self) -> None:
        """Begin to deliver."""
        self._publish_at = time.monotonic() + PUBLISH_EVERY_S
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        wait = LOOK_EVERY_S
        while not self._stopped.wait(wait):
            try:
                # A worker elsewhere waits for its run, and so does not let it be.
                self._deliver(YOUNG_S if self.alone else 0.0)
                self._publish_now_and_then()
                self._note_well()
                wait = LOOK_EVERY_S
            except Exception as error:
                self._note_trouble(error)
                wait = min(2 * wait, RETRY_EVERY_S)

    def _deliver(self, young_s: float = 0.0) -> None:
        self.made += deliver(
            self.client, self.outbox, self.parent, self._memory, self._say_deleted, young_s
        )

    def _note_well(self) -> None:
        """Where nothing is left, only a page that was published says that the store is back."""
        if self._away_since is not None:
            self._away_since = None
            self.say("the tracking store has all that was kept for it.")

    def _say_deleted(self, run_id: str) -> None:
        if run_id in self._deleted:
            return
        self._deleted.add(run_id)
        self.say(
            f"run {run_id} was deleted in MLflow, and is left so; what it lacks is kept. To bring "
            f"it back: mlflow runs restore --run-id {run_id}, then imdbtune sync {self.parent}"
        )

    def _publish_now_and_then(self) -> None:
        started = time.monotonic()
        if self.varied is None or started < self._publish_at:
            return
        publish_page(self.client, self.parent, self.varied, final=False)
        took = time.monotonic() - started
        self._publish_at = time.monotonic() + max(PUBLISH_EVERY_S, 20 * took)

    def _note_trouble(self, error: Exception) -> float:
        """Say that there is trouble, once; returns for how many seconds there has been."""
        if self._away_since is None:
            self._away_since = time.monotonic()
            self.say(f"{self._told(error)}; what is to be written there is kept, and tried again.")
        return time.monotonic() - self._away_since

    def _told(self, error: Exception) -> str:
        if isinstance(error, Deleted):
            return str(error)
        uri = str(self.client.tracking_uri)
        reason = redact_error(failure_reason(error), uri)
        if is_disk_full(error):
            return f"no room is left on the disk ({reason[:200]})"
        trouble = "refuses something" if is_refusal(error) else "cannot be written"
        return f"the tracking store {hide_secrets(uri)} {trouble} ({reason[:200]})"

    def finish(self, patience_s: float = 0.0) -> None:
        """Stop the background, and deliver what is left.

        Args:
            patience_s: how long to wait for a store that is away, from when it went.

        Raises:
            NotDelivered: something is left.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        wait = LOOK_EVERY_S
        while True:
            try:
                self._deliver()
                return self._note_well()
            except Exception as error:
                hopeless = not patience_s or not is_temporary(error)
                if hopeless or self._note_trouble(error) + wait > patience_s:
                    raise NotDelivered(
                        f"{self._told(error)}; what it lacks is kept in {self.outbox.folder}. "
                        f"Bring it in with: imdbtune sync {self.parent}"
                    ) from error
            time.sleep(wait)
            wait = min(2 * wait, RETRY_EVERY_S)


@contextmanager
def deliver_in_background(delivery: BackgroundDelivery, before_s: float = 0.0) -> Iterator[None]:
    """Deliver while the block runs; however it ends, end the parent run and deliver the rest.

    Args:
        delivery: of the search.
        before_s: what the search had taken until now.

    Raises:
        NotDelivered: the block went well, but the store has not got all.
        DiskFull: there was no room to write.
    """
    began = time.monotonic() - before_s
    status, reason = "FINISHED", ""
    with short_timeouts(retries=0, timeout_s=REQUEST_S):
        delivery.start()
        try:
            yield
        except KeyboardInterrupt:
            status, reason = "KILLED", "interrupted"
            raise
        except BaseException as error:
            status, reason = "FAILED", str(error) or type(error).__name__
            if is_disk_full(error) and not isinstance(error, DiskFull):
                raise DiskFull(f"no room is left on the disk ({error})") from error
            raise
        finally:
            with _quiet(status != "FINISHED"):
                try:
                    _end(delivery, status, reason, time.monotonic() - began)
                finally:  # it must not go on by itself
                    delivery.finish(PATIENCE_S if status == "FINISHED" else 0.0)


def _end(delivery: BackgroundDelivery, status: str, reason: str, seconds: float) -> None:
    run = Run(delivery.outbox, delivery.parent)
    try:
        run.log({"search_seconds": seconds})
        run.end(status, reason)
    except OSError:  # no room here; the store may have some
        Run(delivery.client, delivery.parent).end(status, reason)
        raise
    if delivery.varied is not None:
        report = delivery.report and status == "FINISHED"
        delivery.outbox.publish(delivery.parent, delivery.varied, report)


def _quiet(really: bool) -> contextlib.AbstractContextManager[None]:
    """Where there is an error already, one of closing has nothing to add."""
    return contextlib.suppress(Exception) if really else contextlib.nullcontext()
