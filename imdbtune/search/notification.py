"""Send a message when a search or a confirmation is over, by apprise.

The addresses hold passwords and tokens, so they are written nowhere: a message about one names only
its scheme, and apprise, whose log has addresses, does not log.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from imdbtune.errors import UserError, first_line
from imdbtune.search.context import Context
from imdbtune.search.events import ConfirmationOpened, Event, SearchOpened, StoreAway
from imdbtune.tracking.connection import Notify, redact_secrets

if TYPE_CHECKING:
    import apprise

MAX_BODY = 1500  # characters
GOOD, BAD, WARNING = "success", "failure", "warning"  # apprise's types of messages
P = ParamSpec("P")
Result_co = TypeVar("Result_co", covariant=True)
Describe = Callable[[Any], str]


class Task(Protocol[P, Result_co]):
    """A function whose parameter ``context`` is a :class:`imdbtune.search.context.Context`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result_co:
        """Run the task."""


@dataclass(frozen=True)
class Notifier:
    """Sends messages to addresses of apprise."""

    services: Sequence[tuple[str, apprise.Apprise]] = field(repr=False)  # with their schemes

    def send(self, title: str, body: str, kind: str, warn: Notify) -> None:
        """Send a message to each address; ``warn`` hears of those that it does not reach."""
        text = redact_secrets(body)[:MAX_BODY]
        for scheme, service in self.services:
            try:
                with _silent_log():
                    is_sent = bool(service.notify(title=title, body=text, notify_type=kind))
            except Exception:  # its text may hold the address
                is_sent = False
            if not is_sent:
                warn(f"the message {title!r} could not be sent to {scheme}://...; check --notify.")


def open_notifier(urls: Sequence[str]) -> Notifier:
    """Return the notifier for these addresses.

    Raises:
        UserError: apprise is not installed, or does not know one of the addresses.
    """
    if not urls:
        return Notifier(())
    try:
        import apprise
    except ImportError as error:
        raise UserError(
            "--notify needs the package apprise, which is not installed; run: "
            "pip install 'imdbtune[notify]'"
        ) from error
    services = []
    for number, url in enumerate(urls, start=1):
        service = apprise.Apprise()
        with _silent_log():
            is_known = bool(service.add(url))
        if not is_known:
            raise UserError(
                f"address {number} of --notify is not one that apprise knows; give for example "
                "mailto://USER:PASSWORD@HOST, ntfy://TOPIC or jsons://HOST/PATH."
            )
        services.append((_scheme(url), service))
    return Notifier(services)


def _scheme(url: str) -> str:
    """Return what kind of address it is; nothing else of it is shown."""
    found = re.match(r"\s*([A-Za-z][A-Za-z0-9]{0,20})://", url)
    return found[1].lower() if found else "?"


@contextmanager
def _silent_log() -> Iterator[None]:
    """Keep apprise from logging while the block runs, also with ``--verbose``."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def sends_result(
    what: str, describe: Describe
) -> Callable[[Task[P, Result_co]], Task[P, Result_co]]:
    """Return a decorator: the addresses of the context hear how the function ends.

    They also hear of a tracking store that stays away meanwhile.

    Args:
        what: what the function does, such as ``search``.
        describe: returns the result in a few lines.
    """

    def decorate(function: Task[P, Result_co]) -> Task[P, Result_co]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result_co:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            context: Context = bound.arguments["context"]
            if not context.notify_urls:
                return function(*args, **kwargs)
            watched = _Watched(what, context, open_notifier(context.notify_urls))
            bound.arguments["context"] = replace(context, listener=watched, notify_urls=())
            with watched.failure_is_sent():
                result = function(*bound.args, **bound.kwargs)
            watched.send("finished", describe(result), GOOD)
            return result

        return call

    return decorate


@dataclass
class _Watched:
    """Listener of a task: passes events on, and sends those that somebody far away has to know."""

    what: str
    context: Context
    notifier: Notifier
    name: str = ""

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, SearchOpened | ConfirmationOpened):
            self.name = event.search.name
        self.context.listener(event)
        if isinstance(event, StoreAway):
            self.send("goes on without its tracking store", event.text, WARNING)

    def send(self, end: str, body: str, kind: str) -> None:
        """Send how the task ended, or what has happened to it."""
        subject = " ".join(part for part in (self.what, self.name) if part)
        title = f"imdbtune: {subject} {end}"
        self.notifier.send(title, f"{body}\non {socket.gethostname()}", kind, self.context.notify)

    @contextmanager
    def failure_is_sent(self) -> Iterator[None]:
        """Send why the block failed, if it does."""
        try:
            yield
        except KeyboardInterrupt:
            self.send("was interrupted", "It can be resumed.", BAD)
            raise
        except Exception as error:
            self.send("failed", f"{type(error).__name__}: {first_line(error, MAX_BODY)}", BAD)
            raise


def describe_search(search: Any) -> str:
    """Return the best trial and the number of trials of a search that has ended."""
    from imdbtune.models.metrics.metric import format_value
    from imdbtune.tracking import mlflow_names

    counts = {
        name: int(search.metrics.get(f"trials_{name}", 0))
        for name in ("finished", "pruned", "failed")
    }
    score = search.metrics.get(f"best_{search.objective}")
    best = search.tags.get(mlflow_names.BEST, "")
    value = "" if score is None else f", {search.objective} {format_value(search.objective, score)}"
    lines = [f"best: {best}{value}"] if best else ["no trial has a result"]
    lines.append("trials: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n))
    return "\n".join([*lines, f"run {search.run_id}"])
