"""Starts the workers of one machine as processes, and stops them when the job ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence

from ensemble_eval.errors import STOPPED_EXIT_CODES, WorkerFailedError
from ensemble_eval.jobs.process import PARENT_VARIABLE, SESSION_VARIABLE
from ensemble_eval.jobs.signals import StopRequestedError

# A worker that is told to stop finishes a batch and writes. If it takes longer, it is killed. The limit exceeds
# the ten seconds that torch's compiler gives its own processes to end, because it must not be killed meanwhile.
_STOPPING_SECONDS = 12.0
_POLL_SECONDS, _LOOK_EVERY_SECONDS = 0.1, 1.0
_STOPPED = {*STOPPED_EXIT_CODES, -signal.SIGINT, -signal.SIGTERM}


def run_workers(arguments: Sequence[str], count: int, session: str) -> Generator[None]:
    """Run `ensemble-eval` with `arguments` as that many ranks on this machine, until all have ended.

    It yields once a second. Closing the generator stops the workers, which write their finished images.

    Args:
        arguments: The arguments of the command line of every worker.
        count: The number of workers.
        session: A text that identifies this start; see `shard_positions`.

    Raises:
        WorkerFailedError: A worker failed, and the others were told to stop.
        StopRequestedError: The workers were told to stop by a signal.
    """
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            environment = _environment(rank, count, session)
            command = [sys.executable, "-m", "ensemble_eval", *arguments]
            workers.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        looked = time.monotonic()
        while any(worker.poll() is None for worker in workers) and not any(worker.poll() for worker in workers):
            time.sleep(_POLL_SECONDS)
            if time.monotonic() - looked >= _LOOK_EVERY_SECONDS:
                yield
                looked = time.monotonic()
    finally:
        failed = [rank for rank, worker in enumerate(workers) if worker.poll()]
        _stop(workers)
    if failed:
        raise _error_of(failed, [worker.returncode for worker in workers])


def _environment(rank: int, count: int, session: str) -> dict[str, str]:
    """Return the variables that torchrun would set for a rank, and one thread by default."""
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        SESSION_VARIABLE: session,
        PARENT_VARIABLE: str(os.getpid()),
    }


def _stop(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Tell the workers to stop, and return when they have ended."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _STOPPING_SECONDS
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _error_of(failed: Sequence[int], codes: Sequence[int]) -> BaseException:
    """Return the error for workers that ended badly: that of the first one that was not told to stop."""
    rank = min(failed, key=lambda each: (codes[each] in _STOPPED, each))
    code = codes[rank]
    if code in _STOPPED:
        return StopRequestedError(-code if code < 0 else code - 128)
    if code < 0:
        return WorkerFailedError(f"rank {rank} was killed by {signal.Signals(-code).name}", 1)
    return WorkerFailedError(f"rank {rank} failed", code)
