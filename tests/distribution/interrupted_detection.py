"""Commands of detection for `faults`, and what they leave, so that it can be compared to the byte.

python tests/distribution/interrupted_detection.py --rounds 15 --seed 1
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
from builders import randomise
from drawn_boxes import CLASSES, Drawn, draw, outcome_of
from faults import finish, interrupted_runs

from ensemble_eval.detection.proposing import ProposeJob
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.registry import build
from ensemble_eval.settings import ProposeSettings

_WIDTH = 0.05


@dataclass(frozen=True)
class DetectionSetup:
    """A command of detection on drawn pictures, and how long it takes.

    Attributes:
        drawn: pictures and annotations.
        words: of the command, without `--out` and `--ranks`.
        seconds: that it takes when nothing disturbs it.
    """

    drawn: Drawn
    words: tuple[str, ...]
    seconds: float = 0.0

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.drawn.objects)

    def command(self, out: Path, ranks: int) -> list[str]:
        """The command line of a job that writes a part after every image."""
        places = ["--out", str(out), "--ranks", str(ranks), "--save-every", "0", "--boxes", str(self.drawn.boxes)]
        return [sys.executable, "-m", "ensemble_eval", *self.words, str(self.drawn.root), *places]

    def parts(self, out: Path) -> int:
        """How many parts are stored."""
        return len(list(out.glob("*/**/[!.]*.parquet")))


def proposing(drawn: Drawn) -> DetectionSetup:
    """`propose` with selective search in both settings."""
    return DetectionSetup(drawn, ("propose", "--sets", "rcnn,doubled", "--workers", "1"))


def detecting(drawn: Drawn, folder: Path) -> DetectionSetup:
    """`detect` with two narrow networks, on proposals that are there."""
    proposals = folder / "proposals"
    outcome_of(ProposeJob(drawn.opened(), ProposeSettings(out=proposals, sets=("rcnn", "doubled"), workers=1)))
    classes = ClassList("classes", 4, (*CLASSES, NO_OBJECT))
    members = []
    for seed, name in enumerate("ab"):
        member = Member(name, weights=folder / f"{name}.safetensors", arch="googlenet", options={"width": _WIDTH})
        network = randomise(build("googlenet", 4, width=_WIDTH), seed)
        assert member.weights is not None
        save_weights(member.weights, network.state_dict(), member, classes)
        members.append(member)
    (folder / "classes.txt").write_text("\n".join(classes.names or ()))
    manifest = folder / "two.toml"
    write_manifest(manifest, Ensemble(members, folder / "classes.txt", "two"))
    words = ("--ensemble", manifest, "--proposals", proposals, "--device", "cpu", "--backend", "torch")
    return DetectionSetup(drawn, ("detect", *map(str, words)))


def outcome(out: Path) -> dict[str, bytes]:
    """Tables, files and stored rows; not the records of arguments and curves, which name what is no result."""
    found = {
        path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix in {".csv", ".txt", ".tex"}
    }
    found |= {path.name: path.read_bytes() for path in out.glob("detections.json")}
    rows = {
        json.dumps({**row, "set": path.parent.name})
        for path in out.glob("*/**/[!.]*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    return {**found, "rows": "\n".join(sorted(rows)).encode()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw(folder, arguments.images)
        made: dict[str, Callable[[], DetectionSetup]] = {
            "propose": lambda: proposing(drawn),
            "detect": lambda: detecting(drawn, folder),
        }
        for command, make in made.items():
            setup, began = make(), time.monotonic()
            finish(setup.command(folder / command / "world-1", ranks=1))
            setup = replace(setup, seconds=time.monotonic() - began)
            expected = outcome(folder / command / "world-1")
            for out in interrupted_runs(setup, folder / command, arguments.rounds, arguments.seed):
                assert outcome(out) == expected, out
                print(f"{command}: {out.name} ended: the same bytes", flush=True)
    print(f"{arguments.rounds} interruptions of each, seed {arguments.seed}: nothing lost, nothing twice")


if __name__ == "__main__":
    main()
