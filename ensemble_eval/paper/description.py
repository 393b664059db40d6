"""Counts beside what the paper prints: Table 1's last two columns, and two claims."""

import math
from collections.abc import Sequence

from ensemble_eval.paper import published as paper
from ensemble_eval.paper.counting import StageCount

# Table 1's K is 1024 and its M a million: only so do most of its figures come out.
KIBI = 1024
MILLION = 1_000_000
DIFFERS = "≠"


def table1_text(counts: Sequence[StageCount]) -> list[list[str]]:
    """A header and one line of cells per row of Table 1; `≠` marks where counting and print differ.

    They agree when the printed figure is the counted one rounded up or down.
    """
    header = ["layer", "output", "weights", "printed", "", "mult-adds", "printed", ""]
    return [header, *(_line(count) for count in _joined(counts))]


def table1_counts(counts: Sequence[StageCount]) -> list[tuple[str, str, int, str | None, int, str | None]]:
    """Layer, output, weights, what is printed of them, multiply-adds, and what is printed of those, by row."""
    rows = []
    for count in _joined(counts):
        published = paper.TABLE_1.get(count.name)
        printed = (None, None) if published is None else (published.parameters, published.multiply_adds)
        rows.append((count.name, _output(count), count.weights, printed[0], count.multiply_adds, printed[1]))
    return rows


def claim_lines(counts: Sequence[StageCount]) -> list[str]:
    """The counted totals, and the paper's two claims held against them."""
    weights = sum(count.weights for count in counts)
    parameters = sum(count.parameters for count in counts)
    operations = sum(count.multiply_adds for count in counts)
    alexnet = sum(kernel**2 * inputs * outputs for kernel, inputs, outputs in paper.ALEXNET_LAYERS)
    return [
        f"weights {weights:,}; with biases and normalisation {parameters:,} parameters",
        f"multiply-adds {operations:,}: {operations / 1e9:.2f} billion; "
        f"the paper says {paper.CLAIMED_MULTIPLY_ADDS / 1e9:g} billion",
        f"AlexNet has {alexnet:,} weights, {alexnet / weights:.1f} times as many; "
        f"the paper says {paper.CLAIMED_FEWER_THAN_ALEXNET} times",
    ]


def _joined(counts: Sequence[StageCount]) -> list[StageCount]:
    """Stages as Table 1 has them: the 1×1 convolution conv2 stands in the row of the 3×3 after it."""
    by_name = {count.name: count for count in counts}
    reduction, convolution = by_name["conv2"], by_name["conv3"]
    row = StageCount(
        "conv2",
        convolution.output,
        reduction.weights + convolution.weights,
        reduction.parameters + convolution.parameters,
        reduction.multiply_adds + convolution.multiply_adds,
    )
    rows = [row if count.name == "conv2" else count for count in counts]
    return [count for count in rows if count.name != "conv3"]


def _line(count: StageCount) -> list[str]:
    published = paper.TABLE_1.get(count.name)
    if published is None:
        return [count.name, _output(count), "", "", "", "", "", ""]
    return [
        count.name,
        _output(count),
        f"{count.weights / KIBI:.1f}K",
        published.parameters,
        "" if _agrees(count.weights / KIBI, published.parameters) else DIFFERS,
        f"{count.multiply_adds / MILLION:.1f}M",
        published.multiply_adds,
        "" if _agrees(count.multiply_adds / MILLION, published.multiply_adds) else DIFFERS,
    ]


def _output(count: StageCount) -> str:
    channels, *size = count.output
    return "×".join(map(str, [*size, channels] if size else [1, 1, channels]))


def _agrees(counted: float, printed: str) -> bool:
    digits = printed[:-1]
    unit = 10 ** -len(digits.partition(".")[2])
    return float(digits) / unit in (math.floor(counted / unit), math.ceil(counted / unit))
