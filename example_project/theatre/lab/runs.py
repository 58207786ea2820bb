"""What is played, and what has been seen of it so far."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence

__all__ = ["Event", "Laboratory", "Run", "Tell", "error"]

#: Plain values, sent to the page as JSON; `kind` says what it is about.
Event = dict[str, object]
Tell = Callable[[Event], None]

#: How many runs can still be looked at; what is older is forgotten.
REMEMBERED = 20

logger = logging.getLogger(__name__)


def error(text: str, advice: str) -> Event:
    """What went wrong, and what to do about it."""
    return {"kind": "error", "text": text, "advice": advice}


class Run:
    """The events of one run, for any number of pages that look at it."""

    def __init__(self, slug: str) -> None:
        self.id = str(uuid.uuid4())
        #: Of the story that is played.
        self.slug = slug
        self._events: list[Event] = []
        self._is_over = False
        self._news = threading.Condition()

    @property
    def is_over(self) -> bool:
        return self._is_over

    def tell(self, event: Event) -> None:
        with self._news:
            self._events.append(event)
            self._news.notify_all()

    def end(self) -> None:
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def after(self, seen: int, *, patience_seconds: float) -> Sequence[Event]:
        """What has happened since the first `seen` events, as soon as there is something.

        Empty if there is nothing within the patience, or nothing more to come.
        """
        with self._news:
            self._news.wait_for(
                lambda: self._is_over or len(self._events) > seen, patience_seconds
            )
            return self._events[seen:]


class Laboratory:
    """Plays one run at a time, so that none disturbs what another one shows."""

    def __init__(self, play: Callable[[Run], None]) -> None:
        self._play = play
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def find(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def underway(self) -> Run | None:
        with self._lock:
            return self._underway()

    def start(self, run: Run) -> None:
        """Play it in the background, unless another one was quicker."""
        with self._lock:
            is_first = self._underway() is None
            self._runs[run.id] = run
            over = [each for each in self._runs.values() if each.is_over]
            for old in over[:-REMEMBERED]:
                del self._runs[old.id]
        if is_first:
            target = self._play_to_the_end
            threading.Thread(target=target, args=[run], daemon=True).start()
        else:
            run.tell(error("Another run was quicker.", "Please wait for its end."))
            run.end()

    def _underway(self) -> Run | None:
        return next((run for run in self._runs.values() if not run.is_over), None)

    def _play_to_the_end(self, run: Run) -> None:
        try:
            self._play(run)
        except Exception:
            # Whatever it was, the page has to say something.
            logger.exception("The lab could not play %s.", run.slug)
            run.tell(
                error(
                    "Something went wrong in the lab itself, so this shows nothing.",
                    "Press the button again. If it comes back, lab.log says why, in "
                    "the folder of logs that the demo has printed.",
                )
            )
        finally:
            run.end()
