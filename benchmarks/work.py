"""What every contender is given on its command line, and the JSON line that it prints at its end."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

CROPS = 144
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Work:
    """One piece of work.

    Attributes:
        ensemble: manifest of the members.
        images: a flat folder.
        labels: CSV `file,label` for these images.
        batch: crops that go through a network at once.
        precision: of the convolutions, a name of `--precision`.
    """

    ensemble: Path
    images: Path
    labels: Path
    batch: int
    precision: str

    def paths(self) -> list[Path]:
        """The images, sorted by name."""
        return sorted(self.images.iterdir())


@dataclass(frozen=True)
class Cost:
    """What a contender did, and in which time.

    Attributes:
        images: how many.
        useful: passes that the answer consists of, crops × members × images: all 144 crops where the
            contender has them all, whether or not it had to run each of them.
        run: forward passes that it ran for it. More than useful where passes are repeated, fewer where
            crops coincide or are not needed.
        seconds: from the files to the averaged scores; not for loading, compiling and warming up.
    """

    images: int
    useful: int
    run: int
    seconds: float

    def print(self) -> None:
        """Print one line of JSON, which the harness reads."""
        print(json.dumps(asdict(self)), flush=True)


def parser() -> argparse.ArgumentParser:
    """The options that all contenders share; some add their own."""
    options = argparse.ArgumentParser()
    options.add_argument("--ensemble", type=Path, required=True, help="manifest of the members")
    options.add_argument("--images", type=Path, required=True, help="flat folder of images")
    options.add_argument("--labels", type=Path, required=True, help="CSV file,label for them")
    options.add_argument("--batch", type=int, required=True, help="crops through a network at once")
    options.add_argument("--precision", choices=PRECISIONS, required=True, help="of the convolutions")
    return options


def work_from(arguments: argparse.Namespace) -> Work:
    """The work that `parser` parsed."""
    return Work(arguments.ensemble, arguments.images, arguments.labels, arguments.batch, arguments.precision)
