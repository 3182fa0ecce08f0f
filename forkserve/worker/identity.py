"""What must differ between workers that are forked from one template."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from forkserve.config.values import filled_in

if TYPE_CHECKING:
    from forkserve.worker.birth import Job


def take(job: Job) -> None:
    """Be somebody of one's own: numbers in the environment, other random numbers.

    Before the app is imported, in a worker that the master has forked, so that the app
    can choose its device by ``CUDA_VISIBLE_DEVICES``, say.
    """
    numbers = {"slot": job.slot, "worker_id": job.worker_id, "generation": job.generation}
    for name, number in numbers.items():
        os.environ[f"FORKSERVE_{name.upper()}"] = str(number)
    for name, value in job.settings.worker_env:
        os.environ[name] = filled_in(value, numbers)
    if job.loaded is not None:
        reseed()


def reseed() -> None:
    """Seed the generators whose state the fork has copied.

    Only NumPy's: ``random`` seeds itself anew after a fork, OpenSSL mixes the pid in
    (RAND_DRBG(7)), and uuid4() and ``secrets`` ask the kernel (getrandom(2)).
    """
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed(int.from_bytes(os.urandom(4), "big"))
