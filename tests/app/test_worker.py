"""Jobs: pairs at the same seed, a Stop within a step, and no error that stays."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch

from adhere import plugins
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.passes import most_passes
from adhere.app.jobs.result import Result, Shot, Update
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Worker, sentence
from adhere.errors import GuidanceError, ModelError, ParameterError
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio
from tests.app.visit import until

METHOD = sorted(plugins.PLUGINS)[0]


def worker(studio: FakeStudio) -> Worker:
    return Worker(("toybox",), lambda _: studio, FakeJudge)


def begun(events: Any) -> None:
    """Go on until the model is at work."""
    for event in events:
        if isinstance(event, Update) and event.share > 0:
            return


def setup(seeds: tuple[int, ...] = (0,), guided: bool = True, **changes: Any) -> Setup:
    stack = (plugins.plugin(METHOD),) if guided else ()
    return Setup("toybox", Request(prompt="a red cat", plugins=stack, **changes), seeds)


def last(events: Any) -> Result:
    found = [event for event in events if isinstance(event, Result)]
    return found[-1]


def test_pairs_share_their_seed_and_only_one_is_guided() -> None:
    result = last(worker(FakeStudio()).run(setup((3, 5)), threading.Event()))
    assert result.complete
    assert [pair.seed for pair in result.comparisons] == [3, 5]
    for pair in result.comparisons:
        assert pair.before is not None
        assert pair.before.picture.request == pair.after.picture.request.plain()
        assert pair.before.verdict is not None
        assert pair.after.verdict is not None


def test_without_plugins_there_is_nothing_to_compare() -> None:
    result = last(worker(FakeStudio()).run(setup(guided=False), threading.Event()))
    assert [pair.before for pair in result.comparisons] == [None]


def test_first_pair_comes_before_the_others() -> None:
    studio = FakeStudio()
    results = [e for e in worker(studio).run(setup((0, 1, 2)), threading.Event())]
    sizes = [len(event.comparisons) for event in results if isinstance(event, Result)]
    assert sizes == [1, 2, 3]


def test_the_first_plain_picture_comes_before_its_guided_one_is_made() -> None:
    studio = FakeStudio()
    events = worker(studio).run(setup((4, 5)), threading.Event())
    alone = []
    for event in events:
        if isinstance(event, Shot):
            assert not [one for one in studio.asked if one.seed == 5]
            alone.append(event.picture.request)
    assert alone == [setup((4, 5)).request.with_seed(4).plain()]
    without = worker(studio).run(setup(), threading.Event(), compare=False)
    assert not [event for event in without if isinstance(event, Shot)]


def test_attention_is_kept_by_words_only() -> None:
    events = worker(FakeStudio()).run(setup(), threading.Event(), attention=True)
    pair = last(events).comparisons[0]
    assert pair.after.picture.attention is None
    assert pair.after.maps is not None
    assert pair.after.maps.words == ("a", "red", "cat")
    assert pair.after.maps.maps.dtype == "float16"


def test_stop_ends_the_model_within_a_pass() -> None:
    """Also in a step that never ends by itself, as a method that repeats passes has it."""
    studio = FakeStudio(pause=20.0, steps=3)
    studio.passes = 1000
    stop = threading.Event()
    events = worker(studio).run(setup(), stop, compare=False)
    next(events)
    until(lambda: studio.pass_calls > 0, "the model does not begin")
    stop.set()
    before = studio.pass_calls
    result = last(events)
    assert result.stopped
    assert not result.comparisons
    assert studio.pass_calls - before <= 2


def test_stop_before_the_job_begins() -> None:
    studio, stop = FakeStudio(), threading.Event()
    stop.set()
    assert last(worker(studio).run(setup(), stop)).stopped
    assert studio.step_calls == 0


def test_closing_the_page_stops_the_model() -> None:
    studio = FakeStudio()
    studio.held = 0
    others = set(threading.enumerate())
    events = worker(studio).run(setup(), threading.Event())
    begun(events)
    events.close()
    assert studio.interrupted == 1
    assert not [t for t in set(threading.enumerate()) - others if t.name == "adhere-job"]


def test_what_is_finished_is_kept_after_a_stop() -> None:
    studio, stop = FakeStudio(), threading.Event()
    studio.held = 2  # the pair of the first seed
    found = []
    for event in worker(studio).run(setup((0, 1)), stop):
        if isinstance(event, Result):
            found.append(event)
            stop.set()
    assert found[-1].stopped
    assert len(found[-1].comparisons) == 1


def test_an_error_is_raised_and_the_next_job_works() -> None:
    studio = FakeStudio()
    shared = worker(studio)
    studio.fail = ModelError("the model is broken")
    with pytest.raises(GuidanceError, match="broken"):
        list(shared.run(setup(), threading.Event()))
    studio.fail = None
    assert last(shared.run(setup(), threading.Event())).complete


def test_one_job_at_a_time_even_around_the_queue() -> None:
    studio = FakeStudio(pause=0.01)
    running = []
    most = []
    generate = studio.generate

    def counted(*args: Any, **kwargs: Any) -> Any:
        running.append(1)
        most.append(len(running))
        made = generate(*args, **kwargs)
        running.pop()
        return made

    studio.generate = counted  # type: ignore[method-assign]
    shared = worker(studio)
    threads = [
        threading.Thread(target=lambda: list(shared.run(setup(), threading.Event())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_a_model_is_loaded_once_and_swapped_when_another_is_chosen() -> None:
    built: list[str] = []

    def build(name: str) -> FakeStudio:
        built.append(name)
        return FakeStudio()

    shared = Worker(("one", "two"), build, lambda: None)
    shared.warm_up()
    for name in ("one", "one", "two"):
        made = Setup(name, Request(prompt="a cat"), (0,))
        assert last(shared.run(made, threading.Event())).complete
    assert built == ["one", "two"]


def test_sentences() -> None:
    assert sentence(ModelError("no such\n  model")) == "No such model."
    assert "memory" in sentence(MemoryError())
    assert "memory" in sentence(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    secret = sentence(RuntimeError("/secret/path: 0xdead"))
    assert "secret" not in secret
    assert "\n" not in secret


def test_leaving_frees_the_line_for_the_next_visitor() -> None:
    studio = FakeStudio()
    studio.held = 0
    shared = worker(studio)
    first, stop = shared.run(setup(), threading.Event()), threading.Event()
    begun(first)
    second = shared.run(setup(), stop)
    waiting = next(second)
    assert isinstance(waiting, Update)
    assert waiting.stage == "Waiting: 1 job is ahead of yours"
    studio.held = None
    first.close()
    assert last(second).complete


def test_a_waiting_job_can_be_given_up() -> None:
    studio = FakeStudio()
    studio.held = 0
    shared = worker(studio)
    first, stop = shared.run(setup(), threading.Event()), threading.Event()
    begun(first)
    second = shared.run(setup(), stop)
    next(second)
    stop.set()
    assert last(second).stopped
    first.close()


def test_a_waiting_job_says_so_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told is how a server finds that nobody listens, and closes the job."""
    monkeypatch.setattr("adhere.app.jobs.worker.SAID_AGAIN", 0.0)
    studio = FakeStudio()
    queue = worker(studio)
    with queue.line.place():
        waiting = queue.run(setup(), threading.Event())
        said = [next(waiting) for _ in range(3)]
        assert [one.stage for one in said if isinstance(one, Update)] == [
            "Waiting: 1 job is ahead of yours"
        ] * 3
        waiting.close()
        with queue.line.place() as mine:
            assert queue.line.ahead(mine) == 1
    assert studio.step_calls == 0


def test_a_full_line_is_a_sentence() -> None:
    shared = worker(FakeStudio())
    with ExitStack() as places:
        for _ in range(LIMITS.waiting + 1):
            places.enter_context(shared.line.place())
        with pytest.raises(ParameterError, match="waiting already"):
            list(shared.run(setup(), threading.Event()))
    assert last(worker(FakeStudio()).run(setup(), threading.Event())).complete


def test_the_watchdog_ends_a_job_beyond_its_estimate() -> None:
    studio = FakeStudio(steps=8)
    studio.passes = 500
    with pytest.raises(ParameterError, match=r"ended after \d+ model passes"):
        list(worker(studio).run(setup(steps=8), threading.Event()))
    assert studio.pass_calls < 200


def test_the_watchdog_ends_a_job_beyond_its_time() -> None:
    studio = FakeStudio()
    studio.held = 0
    limits = replace(LIMITS, seconds=0.4)
    shared = Worker(("toybox",), lambda _: studio, FakeJudge, limits)
    with pytest.raises(ParameterError, match=r"ended after 0\.4 seconds"):
        list(shared.run(setup(), threading.Event()))


def test_a_job_says_what_it_can_take_before_it_begins() -> None:
    shared = worker(FakeStudio(pause=0.01))
    asked = setup(steps=8)
    most = most_passes(asked.request.plugins, 8, 1)
    first, *_ = shared.run(asked, threading.Event())
    second, *_ = shared.run(asked, threading.Event())
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.stage == f"Loading the model: at most {most} model passes"
    assert re.fullmatch(rf"Starting: at most {most} model passes, about \d+ s", second.stage)


def test_plain_pictures_are_made_once() -> None:
    studio = FakeStudio()
    shared = worker(studio)
    list(shared.run(setup((0, 1)), threading.Event()))
    again = last(shared.run(setup((1, 2)), threading.Event()))
    plain = [request.seed for request in studio.asked if not request.plugins]
    assert plain == [0, 1, 2]
    assert [one.before.picture.request.seed for one in again.comparisons if one.before] == [1, 2]


def test_plain_pictures_are_optional() -> None:
    studio = FakeStudio()
    result = last(worker(studio).run(setup(), threading.Event(), compare=False))
    assert result.comparisons[0].before is None
    assert all(request.plugins for request in studio.asked)
