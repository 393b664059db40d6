"""Feed mutated files to readers and count what they do that no reader should: crash, hang, fill memory, run code.

    python tests/fuzz/runner.py --seed 1

Targets stand in the modules `targets_*.py` beside this one, each in a list `TARGETS`. A reader may accept a file
or refuse it with an error of ours in one line. Each target runs in a process of its own, which is started anew
behind a file that ends it. The same seed gives the same files; `--only TARGET --first N --count 1` repeats one.
"""

import argparse
import importlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parents[1])]
from ensemble_eval.errors import EnsembleEvalError  # noqa: E402 (the path comes first)

ACCEPTED, REFUSED = "accepted", "refused"
_READY = "ready"
_LOADING_SECONDS = 120.0
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
# Most of a format's structure is this near to its beginning or its end.
_ENDS_BYTES = 4096
# What no file may make a reader do. Opening files is what readers do anyway.
_FORBIDDEN = frozenset(
    (
        *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect"),
        *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "os.chmod", "os.link", "os.symlink"),
    )
)


@dataclass(frozen=True)
class Target:
    """A reader, and the files that are mutated for it.

    Attributes:
        name: of the target.
        files: how many mutated files there are.
        write: makes valid files in a folder.
        mutated: picks which of these files one is mutated, relative to the folder; several are picked from.
        read: reads what lies in the folder, as the package would.
        seconds: for one file; more is a hang.
        mebibytes: that reading may take besides what the process has.
    """

    name: str
    files: int
    write: Callable[[Path], None]
    mutated: Sequence[str]
    read: Callable[[Path], object]
    seconds: float = 20.0
    mebibytes: int = 512


class Fault(NamedTuple):
    """A file that a reader did not stand."""

    target: str
    number: int
    what: str


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few changes: bytes overwritten, bits flipped, runs removed, repeated or inserted, the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = _place(len(changed), rng)
        length = rng.choice((1, 2, 4, 8, 64, 512))
        match rng.randrange(7):
            case 0:
                changed[place : place + 1] = bytes([rng.choice(_INTERESTING)])
            case 1 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                changed[place : place + length] = rng.randbytes(length)
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[max(place - length, 0) : place]
            case 5:
                changed[place:place] = rng.randbytes(length)
            case _:
                if rng.random() < 0.3:
                    del changed[place:]
                else:
                    changed[place : place + 4] = rng.choice(
                        (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0")
                    )
    return bytes(changed)


def _place(size: int, rng: random.Random) -> int:
    near = min(size, _ENDS_BYTES)
    return rng.choice((rng.randrange(near + 1), size - rng.randrange(near + 1), rng.randrange(size + 1)))


def run(
    module: str, target: Target, seed: int, first: int = 0, count: int | None = None
) -> tuple[Counter[str], list[Fault]]:
    """Read the mutated files of one target; how many were accepted and refused, and the faults."""
    told: Counter[str] = Counter()
    faults: list[Fault] = []
    number, end = first, min(target.files, first + count) if count is not None else target.files
    while number < end:
        for done, outcome in _in_process(module, target, seed, number, end):
            number = done + 1
            if outcome in (ACCEPTED, REFUSED):
                told[outcome] += 1
            else:
                faults.append(Fault(target.name, done, outcome))
    return told, faults


def _in_process(module: str, target: Target, seed: int, first: int, end: int) -> Iterator[tuple[int, str]]:
    """What becomes of each file, until the process ends; what ended it comes last."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, module, target.name, seed, first, end, Path(folder))
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        try:
            yield from _answers(ours, target, first, end)
        except EOFError as error:
            process.join()
            yield int(str(error)), f"crashes: the process ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()


def _answers(ours: Connection, target: Target, first: int, end: int) -> Iterator[tuple[int, str]]:
    """What the process says of each file.

    Raises:
        EOFError: it ended; with the number of the file.
    """
    number, patience = first, _LOADING_SECONDS
    while number < end:
        if not ours.poll(patience):
            yield number, f"hangs: no answer in {patience:g} seconds"
            return
        try:
            outcome = ours.recv()
        except EOFError as error:
            raise EOFError(number) from error
        patience = target.seconds
        if outcome != _READY:
            yield number, outcome
            number += 1
        if outcome.startswith("memory"):
            return


def _work(answers: Connection, module: str, name: str, seed: int, first: int, end: int, place: Path) -> None:
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    target = next(each for each in importlib.import_module(module).TARGETS if each.name == name)
    target.write(place)
    valid = {each: (place / each).read_bytes() for each in target.mutated}
    # What reading needs anyway, libraries and their pools, is there before memory is measured.
    target.read(place)
    sys.addaudithook(_refuse_forbidden)
    before = _peak_mebibytes()
    answers.send(_READY)
    for number in range(first, end):
        rng = random.Random(f"{seed} {name} {number}")
        chosen = rng.choice(target.mutated)
        (place / chosen).write_bytes(mutate(valid[chosen], rng))
        outcome = _outcome(target, place)
        if (more := _peak_mebibytes() - before) > target.mebibytes:
            outcome = f"memory: {more} MiB more than without the file"
        (place / chosen).write_bytes(valid[chosen])
        answers.send(outcome)
        if outcome.startswith("memory"):
            return


def _refuse_forbidden(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        raise AssertionError(f"it did {event} {arguments}"[:200])


def _outcome(target: Target, place: Path) -> str:
    try:
        target.read(place)
    except EnsembleEvalError as error:
        text = str(error)
        return REFUSED if text and len(text.splitlines()) == 1 else f"says {text!r}, which is not one line"
    except BaseException as error:
        return f"raises {type(error).__name__}: {error}"[:300]
    return ACCEPTED


def _peak_mebibytes() -> int:
    """Of this program; what `getrusage` says is at least what the process had before it began this program."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def modules() -> list[str]:
    """The modules of targets beside this one."""
    return sorted(path.stem for path in FOLDER.glob("targets_*.py"))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a target's name")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    arguments = parser.parse_args()
    found: list[Fault] = []
    for module in modules():
        for target in importlib.import_module(module).TARGETS:
            if arguments.only in (None, target.name):
                began = time.monotonic()
                told, faults = run(module, target, arguments.seed, arguments.first, arguments.count)
                counts = ", ".join(f"{told[each]} {each}" for each in (ACCEPTED, REFUSED))
                seconds = time.monotonic() - began
                print(f"{target.name}: {counts}, {len(faults)} faults in {seconds:.0f} s", flush=True)
                for fault in faults:
                    print(f"  file {fault.number} of {fault.target} {fault.what}", flush=True)
                found += faults
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
