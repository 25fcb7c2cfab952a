"""How results are kept: JSON with the versions, the device and the commit they were made with."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def named(folder: Path, study: str, model: str) -> Path:
    """Where a study of a toybox is kept: of another than the UNet with what its name has more."""
    return folder / f"{study}{model.removeprefix('toybox').replace('-', '_')}.json"


def about(device: str) -> dict[str, Any]:
    """The machine and the software, as far as they bear on the numbers."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    described = {
        "commit": commit or "unknown",
        "changed_since": changed if commit else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "transformers")},
        "device": device,
    }
    if device == "cpu":
        described |= {"processor": _processor(), "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        described |= {"processor": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return described


def write(
    path: str | Path, how: Mapping[str, Any], results: Any, made: Mapping[str, Any] | None = None
) -> None:
    """Keep results, and print them.

    Args:
        how: what was asked for; the `device` at the least, unless it was made elsewhere.
        made: what `about` said where it was made; of this machine if left out.
    """
    here = about(how["device"]) if made is None else made
    kept = {"made": {**here, **{k: v for k, v in how.items() if k != "device"}}}
    text = json.dumps(kept | {"results": results}, indent=1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text + "\n", "utf-8")
    print(text)


def _git(*words: str) -> str:
    try:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return ""
    return run.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} visible" if names else platform.processor()
