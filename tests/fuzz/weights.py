"""Mutated files of weights: each loads, or is refused in one sentence; nothing crashes, hangs, grows or runs code.

    python tests/fuzz/weights.py --seed 1 --files 2000

Each batch of files is read in a process of its own, whose death or silence is a finding. Prints a table of
formats and outcomes, and ends with 1 if there was a finding. The file that caused it is made again by its seed
and number.
"""

import argparse
import collections
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "interop" / "files"
BATCH = 100
SECONDS_PER_FILE = 20
MEMORY_BYTES = 4 << 30
# What reading a file must not do. Files are read, so that opening alone is no finding.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect")
CHANGING = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "os.chmod", "os.link", "os.symlink")


def originals() -> dict[str, bytes]:
    """A file of each format by name; what torch and safetensors write is made here, because it is small."""
    import torch
    from safetensors.torch import save

    from ensemble_eval.models.registry import build

    torch.manual_seed(0)
    tensors = dict(build("googlenet", 7, width=0.03).state_dict())
    found = {path.name: path.read_bytes() for path in sorted(FILES.iterdir()) if path.suffix != ".npz"}
    # Its values lie in another file, which is not mutated.
    found.pop("slim-v2.ckpt.data-00000-of-00001", None)
    for name, zipped in (("torch.pth", True), ("torch-old.pth", False)):
        buffer = io.BytesIO()
        torch.save({"model": tensors, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
        found[name] = buffer.getvalue()
    return {**found, "ours.safetensors": save(tensors)}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few changes of one file, most of them near the beginning or the end, where the structure is."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            rng.choice(MUTATIONS)(changed, _position(changed, rng), rng)
    return bytes(changed)


def _position(data: bytearray, rng: random.Random) -> int:
    near = min(len(data), 4096)
    return rng.choice((rng.randrange(near), len(data) - 1 - rng.randrange(near), rng.randrange(len(data))))


def _cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def _flip_a_bit(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _put_an_extreme_number(data: bytearray, at: int, rng: random.Random) -> None:
    data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\x00\x00\x00\x80"))


def _leave_some_out(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randrange(1, 64)]


def _put_noise_in(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randrange(1, 64))


def _repeat_some(data: bytearray, at: int, rng: random.Random) -> None:
    other = _position(data, rng)
    data[at:at] = data[other : other + rng.randrange(1, 256)]


MUTATIONS = (_cut, _flip_a_bit, _flip_a_bit, _put_an_extreme_number, _leave_some_out, _put_noise_in, _repeat_some)


def outcome(path: Path) -> str:
    """`loaded` or `refused`; anything else is raised."""
    from ensemble_eval.errors import InputError
    from ensemble_eval.members.ensemble import GRAPH, InputFormat, Member
    from ensemble_eval.members.loading import load_member

    try:
        member = Member("a", weights=path, input=InputFormat.imagenet())
        if member.arch == GRAPH:
            _run_graph(member)
        else:
            load_member(member, 8 if member.outputs else 7)
    except InputError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError(f"more than a sentence: {str(error)[:300]!r}") from error
        return "refused"
    return "loaded"


def _run_graph(member: Any) -> None:
    import torch

    from ensemble_eval.backends.graph_files import GraphFile
    from ensemble_eval.members.preprocessing import SharedPreprocessing

    device = torch.device("cpu")
    outputs = 9 if member.options else 7
    predict = GraphFile(member, SharedPreprocessing(member.input, device), outputs, "float32")
    predict(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))


def work(seed: int, start: int, stop: int, folder: Path) -> None:
    """Read files number `start` to `stop`, and print a line of JSON before and after each."""
    import torch

    torch.set_num_threads(1)
    files = originals()
    (folder / "a.ckpt.data-00000-of-00001").write_bytes((FILES / "slim-v2.ckpt.data-00000-of-00001").read_bytes())
    for data in files.values():
        (folder / "warm").write_bytes(data)
        outcome(folder / "warm")
    _watch_for_code()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for index in range(start, stop):
        rng = random.Random(f"{seed} {index}")
        name = sorted(files)[index % len(files)]
        path = folder / ("a.ckpt.index" if name.endswith(".index") else f"a{Path(name).suffix}")
        path.write_bytes(mutated(files[name], rng))
        print(json.dumps({"index": index, "name": name, "path": str(path)}), flush=True)
        try:
            found = outcome(path)
        except BaseException as error:
            found = f"FINDING {type(error).__name__}: {str(error)[:300]}"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > used + MEMORY_BYTES:
            found = "FINDING memory"
        print(json.dumps({"outcome": found}), flush=True)


def _watch_for_code() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN or event in CHANGING:
            raise AssertionError(f"it did {event} {arguments}"[:200])

    sys.addaudithook(hook)


def main() -> int:
    """The exit code: 1 if there was a finding."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--files", type=int, default=2000)
    options.add_argument("--worker", type=int, nargs=2)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    if given.worker:
        start, stop = given.worker
        work(given.seed, start, stop, given.folder)
        return 0
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    findings, began, at = [], time.monotonic(), 0
    while at < given.files:
        stop = min(at + BATCH, given.files)
        lines = _worker_lines(given.seed, at, stop)
        for asked, answered in zip(lines[::2], [*lines[1::2], None][: len(lines[::2])], strict=True):
            found = answered["outcome"] if answered else "FINDING the process died or was silent"
            counts[asked["name"], found.partition(" ")[0]] += 1
            if found.startswith("FINDING"):
                findings.append(f"seed {given.seed}, file {asked['index']} of {asked['name']}: {found}")
            at = asked["index"] + 1
        if not lines:
            findings.append(f"seed {given.seed}: no process could begin at file {at}")
            break
    for (name, found), count in sorted(counts.items()):
        print(f"{name:24} {found:8} {count:5}")
    seconds = time.monotonic() - began
    print(f"{sum(counts.values())} files, seed {given.seed}, {seconds:.0f} s, {len(findings)} findings")
    print(*findings, sep="\n")
    return 1 if findings else 0


def _worker_lines(seed: int, start: int, stop: int) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "--seed", str(seed), "--worker", str(start), str(stop), "--folder"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*command, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
    ):
        try:
            out, _ = process.communicate(timeout=60 + SECONDS_PER_FILE * (stop - start))
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    sys.exit(main())
