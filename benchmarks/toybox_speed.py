"""How quick the bundled model and its judge are on this machine.

    python -m benchmarks.toybox_speed [--out benchmarks/toybox_speed.json]

Pictures: a batch of 4 at 25 steps, the best of five after a warm-up. Judge: pictures a second.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from adhere.pipelines.toybox import Judge, load_toybox
from adhere.pipelines.toybox.judge.calibration import held_out
from benchmarks.asked import answered, whole

PROMPTS = [
    "a cat and a frog",
    "a bird and a red car",
    "a blue balloon and a yellow crown",
    "a green lion",
]


def picture_seconds(repeats: int) -> list[float]:
    """Seconds of each repeat of a batch of 4 at 25 steps."""
    pipe = load_toybox()
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        pipe(PROMPTS, num_inference_steps=25)
        times.append(time.perf_counter() - start)
    return times[1:]


def judge_rate(count: int) -> float:
    """Pictures judged a second."""
    judge = Judge.load()
    _, images = held_out(1, count)
    floats = images.float() / 255
    judge.judge_tensor(floats[:32])
    start = time.perf_counter()
    judge.judge_tensor(floats)
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measures and prints; writes JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=whole, default=5)
    options = parser.parse_args()
    times = picture_seconds(options.repeats)
    result = {
        "batch_of_4_at_25_steps_seconds": {
            "best": round(min(times), 2),
            "median": round(statistics.median(times), 2),
            "repeats": options.repeats,
        },
        "judged_pictures_per_second": round(judge_rate(320), 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    answered(main)
