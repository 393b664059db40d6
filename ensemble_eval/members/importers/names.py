"""Our names of GoogLeNet's convolutions, stage by stage, for the tables of other frameworks' names."""

from collections.abc import Iterator
from dataclasses import dataclass

from ensemble_eval.models.stages import STAGES, Convolution, Inception

# The six convolutions of a module, as Table 1 of the paper names its columns, by our names.
BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_projection": "branch4.1",
}


@dataclass(frozen=True)
class ConvolutionName:
    """One convolution.

    Attributes:
        ours: the name of its unit in our state dict.
        stage: the row of Table 1, such as `3a` of a module or `conv1`.
        column: the column of Table 1 in a module; empty for the first three convolutions.
    """

    ours: str
    stage: str
    column: str


def convolutions() -> Iterator[ConvolutionName]:
    """The convolutions of GoogLeNet's trunk in order."""
    for stage in STAGES:
        match stage:
            case Convolution(name):
                yield ConvolutionName(name, name, "")
            case Inception(name):
                for column, branch in BRANCHES.items():
                    yield ConvolutionName(f"{name}.{branch}", name.removeprefix("inception"), column)
