"""Interrupt runs at random moments until they have ended often enough, and compare what they leave.

    python tests/distribution/faults.py --rounds 30 --seed 1

Every finished run must have the bytes of one that nothing interrupted: table3.csv and sorted predictions.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))
from builders import write_dataset, write_ensemble
from outcome import outcome_bytes

# A run that was told to stop has this long, on an idle machine.
STOPPING_SECONDS = 10.0
FINISHED, INTERRUPTED = 0, 128


class Interruptible(Protocol):
    """A job that keeps what it finished."""

    @property
    def images(self) -> int:
        """How many there are."""

    @property
    def seconds(self) -> float:
        """How long it takes when nothing disturbs it."""

    def command(self, out: Path, ranks: int) -> list[str]:
        """Its command line; it writes a part after every image."""

    def parts(self, out: Path) -> int:
        """How many parts it has stored."""


@dataclass(frozen=True)
class Setup:
    """What all runs have in common: images, their number, members, and how long one run takes."""

    dataset: Path
    images: int
    ensemble: Path
    seconds: float = 0.0

    def command(self, out: Path, ranks: int, batch_size: int = 8) -> list[str]:
        """The command line of a run that writes a part after every image."""
        evaluation = ["--crops", 10, "--batch-size", batch_size, "--device", "cpu", "--save-every", 0]
        # Nothing to convert: a start takes as long as importing.
        evaluation += ["--backend", "torch"]
        places = ["--ensemble", self.ensemble, "--out", out, "--ranks", ranks, self.dataset]
        return [sys.executable, "-m", "ensemble_eval", "run", *map(str, [*evaluation, *places])]

    def parts(self, out: Path) -> int:
        """How many parts a run has stored."""
        return len(list((out / "predictions").glob("part-*")))


@dataclass(frozen=True)
class Fault:
    """One interruption: a signal, to the launcher, to one of its workers or to all of them.

    It comes so many seconds after the run's start, or after it has stored so many further parts.
    """

    signal_number: signal.Signals
    target: str
    seconds: float = 0.0
    new_parts: int = 0

    def moment(self) -> str:
        """When it comes, in words."""
        after = f"{self.new_parts} new parts and " if self.new_parts else ""
        return f"{after}{self.seconds:.2f} s"


def make_setup(folder: Path, images: int) -> Setup:
    """A data set of small images and a narrow network."""
    sizes = [(40 + image % 3, 40) for image in range(images)]
    return Setup(write_dataset(folder / "val", sizes), images, write_ensemble(folder / "ensemble", members=1))


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, so that its terminal's signals are its own."""
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(command: Sequence[str]) -> None:
    """Run to the end, which must be a good one."""
    process = start(command)
    _, messages = process.communicate()
    assert process.returncode == FINISHED, messages


def random_fault(rng: random.Random, setup: Interruptible) -> Fault:
    """An interruption somewhere within a run's time, two of three in its work, which is stored image by image."""
    number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    target = rng.choice(["launcher", "worker", "all"]) if number == signal.SIGKILL else "launcher"
    if rng.random() < 1 / 3:
        return Fault(number, target, rng.uniform(0.2, 1.0) * setup.seconds)
    return Fault(number, target, rng.uniform(0, 0.1), new_parts=rng.randint(1, setup.images // 10))


def interrupt(
    command: Sequence[str], fault: Fault, due: Callable[[], bool] = lambda: True
) -> tuple[int, float, str]:
    """Run until the fault; give the exit code, the seconds that it took to leave, and the messages.

    Args:
        command: of the run.
        fault: what happens to it.
        due: tells from when on the fault's seconds count; at once by default.
    """
    process = start(command)
    while process.poll() is None and not due():
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(fault.seconds)
    began = time.monotonic()
    if process.poll() is None:
        for pid in _targets(process.pid, fault.target):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, fault.signal_number)
    _, messages = process.communicate()
    return process.returncode, time.monotonic() - began, messages


def check_leave(fault: Fault, code: int, seconds: float, messages: str, *, timed: bool) -> None:
    """A run that was told to stop says how to go on, once, and is quick about it."""
    if code == FINISHED or fault.signal_number == signal.SIGKILL:
        return
    # Before the program has its handlers, the signal's own default ends it, or Python's for SIGINT.
    if code == -signal.SIGTERM and not messages:
        return
    if fault.signal_number == signal.SIGINT and code in (-signal.SIGINT, 1):
        assert messages == "" or messages.endswith("KeyboardInterrupt\n"), messages
        return
    if (code, messages) == (INTERRUPTED + signal.SIGINT, "stopped by SIGINT\n"):
        return
    assert code == INTERRUPTED + fault.signal_number, messages
    assert messages.count("continue with: ensemble-eval ") == 1, messages
    assert not timed or seconds < STOPPING_SECONDS, f"took {seconds:.1f} s to leave"


def stored(setup: Interruptible, out: Path, parts: int) -> Callable[[], bool]:
    """Tells whether a job has stored that many parts."""
    return lambda: setup.parts(out) >= parts


def _targets(launcher: int, target: str) -> list[int]:
    workers = list(children(launcher))
    if target == "launcher" or not workers:
        return [launcher]
    return [workers[-1]] if target == "worker" else [launcher, *workers]


def children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name may hold anything; what follows its parenthesis is fixed.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def is_worker(pid: int) -> bool:
    """Whether a launcher's child has begun its own program: until then it holds up the launcher (vfork)."""
    try:
        return b"LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def disturbed_worker(number: signal.Signals, due: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Send a signal to one of two workers of this process as soon as both have begun and it is due."""

    def disturb() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            workers = [pid for pid in sorted(children(os.getpid())) if is_worker(pid)]
            if len(workers) == 2 and due():
                os.kill(workers[1], number)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=disturb)
    thread.start()
    yield
    thread.join()


def interrupted_runs(setup: Interruptible, folder: Path, rounds: int, seed: int) -> Iterator[Path]:
    """Interrupt that many times; yield the folder of every run that ended well in spite of it."""
    rng = random.Random(seed)
    run, faults = 0, 0
    while True:
        out = folder / f"interrupted-{run}"
        command = setup.command(out, ranks=rng.choice([1, 2, 3]))
        if faults == rounds:
            finish(command)
            yield out
            return
        fault = random_fault(rng, setup)
        code, seconds, messages = interrupt(command, fault, stored(setup, out, setup.parts(out) + fault.new_parts))
        if code == FINISHED:
            run += 1
            yield out
            continue
        faults += 1
        check_leave(fault, code, seconds, messages, timed=True)
        parts = setup.parts(out)
        print(
            f"{faults:3}: {fault.signal_number.name} to {fault.target} after {fault.moment()}, "
            f"gone in {seconds:.1f} s with {code}; {parts} parts",
            flush=True,
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setup = make_setup(folder, arguments.images)
        began = time.monotonic()
        finish(setup.command(folder / "world-1", ranks=1))
        setup = replace(setup, seconds=time.monotonic() - began)
        expected = outcome_bytes(folder / "world-1")
        for ranks in (2, 3, 5):
            finish(setup.command(folder / f"world-{ranks}", ranks))
            assert outcome_bytes(folder / f"world-{ranks}") == expected, f"{ranks} ranks"
            print(f"{ranks} ranks: the same bytes as one", flush=True)
        finish(setup.command(folder / "batches", ranks=2, batch_size=5))
        assert (folder / "batches" / "table3.csv").read_bytes() == expected[0]
        print("another batch size: the same table", flush=True)
        for out in interrupted_runs(setup, folder, arguments.rounds, arguments.seed):
            assert outcome_bytes(out) == expected, out
            print(f"{out.name} ended: the same bytes", flush=True)
    print(f"{arguments.rounds} interruptions, seed {arguments.seed}: nothing lost, nothing twice")


if __name__ == "__main__":
    main()
