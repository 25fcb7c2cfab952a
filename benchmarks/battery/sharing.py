"""Several processes on one NVIDIA GPU at once, through CUDA's Multi-Process Service.

Small models leave a GPU idle between kernels, and processes that take turns on it wait for one
another: eight that guided the toybox made 23 pictures a second on an H200, with the service 60.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CONTROL = "nvidia-cuda-mps-control"


@contextmanager
def shared(device: str) -> Iterator[bool]:
    """Inside, processes that are started share the GPU; tells whether they do.

    The service is this run's own: its files lie in a folder for the time being, other processes of
    the machine do not see it, and it ends with the block. Nothing is done on other devices, without
    the service's program, or where a service is chosen already.
    """
    chosen = "CUDA_MPS_PIPE_DIRECTORY" in os.environ
    if not device.startswith("cuda") or chosen or shutil.which(CONTROL) is None:
        yield chosen
        return
    with tempfile.TemporaryDirectory() as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(own)
        try:
            subprocess.run([CONTROL, "-d"], check=True, timeout=60)
            yield True
        finally:
            subprocess.run([CONTROL], input=b"quit\n", check=False, timeout=60)
            for name in own:
                del os.environ[name]
