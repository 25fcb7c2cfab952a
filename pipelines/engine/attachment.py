"""Putting guidance on a pipeline and taking it off again.

Between calls nothing is on the pipeline but the watch for its next call (`hooks.pipeline_call`);
for the length of a call a session is.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from adhere.errors import GuidanceWarning, ModelError
from adhere.pipelines.engine.outcome import Outcome
from adhere.pipelines.engine.session import Session
from adhere.pipelines.engine.state import Setup
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.backends import processors_kept
from adhere.pipelines.hooks.pipeline_call import PipelineCall, watch
from adhere.pipelines.hooks.schedulers import outside

_lock = threading.Lock()
_attached: WeakSet[Any] = WeakSet()
"""Pipelines that guidance is attached to for all their calls."""
_under_way: dict[int, PipelineCall] = {}
"""The guided call that each pipeline, by its id, is in."""


class Attachment:
    """Guidance on one pipeline. `open` and `close` are symmetric, `close` may be called again.

    Args:
        carried: says of a call whether it is to be guided; all are without it.
    """

    def __init__(
        self,
        pipe: Any,
        setup: Setup,
        outcome: Outcome,
        carried: Callable[[PipelineCall], bool] | None = None,
    ) -> None:
        self.pipe, self.setup, self.outcome, self.carried = pipe, setup, outcome, carried
        self.session: Session | None = None
        self._end: Callable[[], None] | None = None

    def open(self) -> None:
        """Guide the pipeline's calls from now on.

        Raises:
            ModelError: it is of no known family, or guided already.
        """
        family_of(self.pipe)
        if self.carried is None:
            if self.pipe in _attached:
                raise ModelError(_TWICE)
            _attached.add(self.pipe)
        self._end = watch(self.pipe, self._around)

    @property
    def on(self) -> bool:
        """Whether the pipeline's next call will be guided."""
        return self._end is not None

    def close(self) -> None:
        """Guide no call any more, nor the rest of one that is under way."""
        if self.session is not None:
            self.session.close()
        if self._end is not None:
            self._end()
            if self.carried is None:
                _attached.discard(self.pipe)
        self._end = None

    @contextmanager
    def _around(self, call: PipelineCall) -> Iterator[None]:
        """Around each call of the pipeline."""
        _refuse_second(self.pipe, call)
        if self.carried is not None and not self.carried(call):
            yield
            return
        with _alone(self.pipe, call):
            session = self.session = Session(self.setup, family_of(self.pipe), self.outcome)
            with outside.told(self.pipe, call.values, self.outcome.warn):
                try:
                    with processors_kept(session.denoiser):
                        session.open(call)
                        yield
                        self.outcome.take(call.result)
                        if self.setup.plugins and not session.begun:
                            warnings.warn(NO_STEP, GuidanceWarning, stacklevel=2)
                finally:
                    self.session = None
                    session.close()


NO_STEP = (
    "the call never asked the model for anything, so nothing in it was guided and it has no "
    "report: its strength leaves none of its steps; give more of either"
)
_TWICE = (
    "guidance is attached to this pipeline already: call detach() on what attach() returned, or "
    "attach in a `with`; for several plugins at once put them in one Guidance(...), they share one "
    "pass there"
)


@contextmanager
def _alone(pipe: Any, call: PipelineCall) -> Iterator[None]:
    """One guidance a call, and one guided call of a pipeline at a time."""
    with _lock:
        _refuse_second(pipe, call)
        if id(pipe) in _under_way:
            raise ModelError(_TWICE)
        _under_way[id(pipe)] = call
    try:
        yield
    finally:
        del _under_way[id(pipe)]


def _refuse_second(pipe: Any, call: PipelineCall) -> None:
    """Raise `ModelError` for a call of a pipeline that is in another, guided one."""
    if _under_way.get(id(pipe), call) is not call:
        raise ModelError(
            f"this {type(pipe).__name__} was called again while a guided call of it is "
            "under way, in a callback or in another thread, and both would step with one "
            "scheduler; make a second pipeline of the same models with a scheduler of its own: "
            "type(pipe)(**{**pipe.components, 'scheduler': type(pipe.scheduler)"
            ".from_config(pipe.scheduler.config)})"
        )
