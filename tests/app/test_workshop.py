"""Jobs: pairs at the same seed, a Stop within a step, and no error that stays."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from adhere.app.jobs.workshop import Glimpse, Result, Workshop, sentence

from adhere import plugins
from adhere.app.jobs.setup import Setup
from adhere.errors import GuidanceError, ModelError
from adhere.pipelines.studio.request import Request
from tests.app.fakes import FakeJudge, FakeStudio

METHOD = sorted(plugins.PLUGINS)[0]


def workshop(studio: FakeStudio) -> Workshop:
    return Workshop(("toybox",), lambda _: studio, FakeJudge)


def setup(seeds: tuple[int, ...] = (0,), guided: bool = True, **changes: Any) -> Setup:
    stack = (plugins.plugin(METHOD),) if guided else ()
    return Setup("toybox", Request(prompt="a red cat", plugins=stack, **changes), seeds)


def last(events: Any) -> Result:
    found = [event for event in events if isinstance(event, Result)]
    return found[-1]


def test_pairs_share_their_seed_and_only_one_is_guided() -> None:
    result = last(workshop(FakeStudio()).run(setup((3, 5)), threading.Event()))
    assert result.complete
    assert [pair.seed for pair in result.pairs] == [3, 5]
    for pair in result.pairs:
        assert pair.before is not None
        assert pair.before.request == pair.after.request.plain()
        assert pair.judged_before is not None
        assert pair.judged_after is not None


def test_without_plugins_there_is_nothing_to_compare() -> None:
    result = last(workshop(FakeStudio()).run(setup(guided=False), threading.Event()))
    assert [pair.before for pair in result.pairs] == [None]


def test_first_pair_comes_before_the_others() -> None:
    studio = FakeStudio()
    results = [e for e in workshop(studio).run(setup((0, 1, 2)), threading.Event())]
    sizes = [len(event.pairs) for event in results if isinstance(event, Result)]
    assert sizes == [1, 3]


def test_attention_is_kept_by_words_only() -> None:
    events = workshop(FakeStudio()).run(setup(), threading.Event(), attention=True)
    pair = last(events).pairs[0]
    assert pair.after.attention is None
    assert pair.maps_after is not None
    assert pair.maps_after.words == ("a", "red", "cat")
    assert pair.maps_after.maps.dtype == "float16"


def test_stop_ends_the_model_within_a_step() -> None:
    studio = FakeStudio(pause=0.05, steps=200)
    stop = threading.Event()
    events = workshop(studio).run(setup(), stop)
    for event in events:
        if isinstance(event, Glimpse) and event.share > 0:
            break
    before = studio.step_calls
    stop.set()
    result = last(events)
    assert result.stopped
    assert not result.pairs
    assert studio.step_calls - before <= 2


def test_stop_before_the_job_begins() -> None:
    studio, stop = FakeStudio(), threading.Event()
    stop.set()
    assert last(workshop(studio).run(setup(), stop)).stopped
    assert studio.step_calls == 0


def test_closing_the_page_stops_the_model() -> None:
    studio = FakeStudio(pause=0.05, steps=200)
    events = workshop(studio).run(setup(), threading.Event())
    for event in events:
        if isinstance(event, Glimpse) and event.share > 0:
            break
    events.close()
    before = studio.step_calls
    time.sleep(0.2)
    assert studio.step_calls == before
    assert not [t for t in threading.enumerate() if t.name == "adhere-job"]


def test_what_is_finished_is_kept_after_a_stop() -> None:
    studio = FakeStudio(pause=0.02, steps=20)
    stop = threading.Event()
    found = []
    for event in workshop(studio).run(setup((0, 1)), stop):
        if isinstance(event, Result):
            found.append(event)
            stop.set()
    assert found[-1].stopped
    assert len(found[-1].pairs) == 1


def test_an_error_is_raised_and_the_next_job_works() -> None:
    studio = FakeStudio()
    shop = workshop(studio)
    studio.fail = ModelError("the model is broken")
    with pytest.raises(GuidanceError, match="broken"):
        list(shop.run(setup(), threading.Event()))
    studio.fail = None
    assert last(shop.run(setup(), threading.Event())).complete


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
    shop = workshop(studio)
    threads = [
        threading.Thread(target=lambda: list(shop.run(setup(), threading.Event())))
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

    shop = Workshop(("one", "two"), build, lambda: None)
    shop.warm_up()
    for name in ("one", "one", "two"):
        made = Setup(name, Request(prompt="a cat"), (0,))
        assert last(shop.run(made, threading.Event())).complete
    assert built == ["one", "two"]


def test_sentences() -> None:
    assert sentence(ModelError("no such\n  model")) == "No such model."
    assert "memory" in sentence(MemoryError())
    assert "memory" in sentence(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    secret = sentence(RuntimeError("/secret/path: 0xdead"))
    assert "secret" not in secret
    assert "\n" not in secret
