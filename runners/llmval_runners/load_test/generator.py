"""The open-loop generator: a thread of its own that sends each request when it is due, however slow the answers are."""

import random
import threading
import time
from collections.abc import Callable

from llmval_runners.engine.request import Request
from llmval_runners.load_test.arrivals import Arrival


def prompt_tokens(seed: int, index: int, count: int, vocab: int) -> list[int]:
    """Random token ids [count] below `vocab`, the same for a seed and request index whatever the rate."""
    return random.Random(f"prompt {seed} {index}").choices(range(vocab), k=count)


class LoadGenerator:
    """Sends `arrivals` to `submit` at their absolute deadlines; a late request does not shift the ones after it.

    No cap on requests in flight by default: a cap hides queueing (coordinated omission). With one, a request waits here
    until an earlier one ends, and its schedule delay shows it.
    """

    def __init__(
        self,
        arrivals: list[Arrival],
        submit: Callable[[Request], None],
        *,
        seed: int,
        vocab: int,
        max_in_flight: int | None = None,
    ) -> None:
        self.arrivals = arrivals
        self.sent: list[Request] = []
        self.origin_ns = 0
        self.finished = threading.Event()
        self._submit = submit
        self._seed = seed
        self._vocab = vocab
        self._stop = threading.Event()
        self._slots = threading.Semaphore(max_in_flight) if max_in_flight else None
        self._thread = threading.Thread(target=self._run, name="load generator", daemon=True)

    def start(self) -> None:
        """Open the window: deadlines count from here."""
        self.origin_ns = time.perf_counter_ns()
        self._thread.start()

    def now(self) -> float:
        """Seconds since the window opened."""
        return (time.perf_counter_ns() - self.origin_ns) / 1e9

    def answered(self) -> None:
        """A request ended; only a cap on requests in flight needs to know."""
        if self._slots is not None:
            self._slots.release()

    def stop(self) -> None:
        """Send nothing more and wait for the thread."""
        self._stop.set()
        if self._slots is not None:
            self._slots.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for arrival in self.arrivals:
            prompt = prompt_tokens(self._seed, arrival.index, arrival.input_tokens, self._vocab)
            request = Request(arrival.index, prompt, arrival.output_tokens, arrival.intended_s)
            if self._slots is not None:
                self._slots.acquire()
            while not self._stop.is_set() and (early := arrival.intended_s - self.now()) > 0:
                self._stop.wait(early)
            if self._stop.is_set():
                return
            request.dispatch_s = self.now()
            self.sent.append(request)
            self._submit(request)
        self.finished.set()
