"""The contenders as data: how each is started, and what of the settings it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        title: what it is, for the table; `{precision}` stands for the comparison's.
        module: in `benchmarks.contenders`.
        options: of its own, as words of a command line; `{backend}` stands for ours.
        batch: crops that go through a network at once; None: as many as ours takes.
        precision: of the convolutions; None: the comparison's.
        images: how many, where not as many as all: slow ones are given fewer.
    """

    title: str
    module: str
    options: tuple[str, ...] = ()
    batch: int | None = None
    precision: str | None = None
    images: int | None = None


# Whoever compares an ensemble of installed code has decided to run it: all the others do.
_OURS = ("--backend", "{backend}", "--trust-python")

CONTENDERS: Mapping[str, Contender] = {
    "a": Contender("ours, full", "ours", _OURS),
    "b": Contender("ours, until decided", "ours", (*_OURS, "--until-decided")),
    "c16": Contender("script: torchvision v2, eager {precision}, batches of 16", "script", batch=16),
    "c48": Contender("the same, batches of 48", "script", batch=48),
    "c144": Contender("the same, batches of 144", "script", batch=144),
    "d": Contender("six runs: Pillow, DataLoader, float32", "six_runs", batch=144, precision="float32", images=2),
    "e": Contender("ttach: 120 of the 144 crops, {precision}", "ttach_views", batch=3, images=2),
    # ONNX Runtime has no bfloat16 kernels for CPUs.
    "f": Contender(
        "script with ONNX Runtime, float32, batches of 48", "onnx_runtime", batch=48, precision="float32", images=4
    ),
    "g": Contender("the bound: OpenVINO's forward pass alone, {precision}", "bound"),
}


def chosen(names: Sequence[str]) -> list[str]:
    """The keys that `names` stand for, in the table's order; `c` stands for `c16`, `c48` and `c144`.

    Raises:
        ValueError: a name stands for none.
    """
    for name in names:
        if not any(_stands_for(name, key) for key in CONTENDERS):
            raise ValueError(
                f"there is no contender {name!r}; choose among {', '.join(CONTENDERS)}, or c for all c…"
            )
    return [key for key in CONTENDERS if any(_stands_for(name, key) for name in names)]


def _stands_for(name: str, key: str) -> bool:
    return name == key or (name == key[0] and len(name) == 1)
