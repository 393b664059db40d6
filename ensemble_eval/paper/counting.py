"""The weights and multiply-adds of a network, counted without running it, beside the figures of the paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ensemble_eval.errors import InputError
from ensemble_eval.models.registry import PYTHON_PREFIX, build
from ensemble_eval.models.stages import INPUT_CHANNELS, INPUT_SIZE
from ensemble_eval.paper.published import ALEXNET_LAYERS, CLAIMED_MULTIPLY_ADDS, CLAIMED_TIMES_FEWER, TABLE_1
from ensemble_eval.tables.table import Column, Table

# With K as 1024 and M as a million, most figures of Table 1 agree with the counted ones.
KIBI = 1024
MILLION = 1_000_000
DIFFERS = "≠"


@dataclass(frozen=True)
class StageCount:
    """One stage of a network for one 224×224 crop.

    Attributes:
        name: The name of the module.
        output: (channels, height, width).
        weights: The weights of convolutions and linear layers, without biases and normalisation, as in Table 1.
        parameters: All trained parameters.
        multiply_adds: The multiply-adds of convolutions and linear layers.
    """

    name: str
    output: tuple[int, ...]
    weights: int
    parameters: int
    multiply_adds: int


def count_network(arch: str, num_classes: int, *, width: float = 1.0) -> list[StageCount]:
    """Count each top-level stage of a registered architecture, in the order of the forward pass.

    Raises:
        InputError: unknown architecture, impossible width or class count.
    """
    if arch.startswith(PYTHON_PREFIX):
        raise InputError("describe counts the registry's architectures, not python: callables")
    with torch.device("meta"):
        network = build(arch, num_classes, width=width).eval()
        crop = torch.empty(1, INPUT_CHANNELS, INPUT_SIZE, INPUT_SIZE)
    outputs: dict[str, tuple[int, ...]] = {}
    for name, stage in network.named_children():
        stage.register_forward_hook(lambda _, _in, out, name=name: outputs.update({name: tuple(out.shape[1:])}))
    with FlopCounterMode(display=False) as counter:
        network(crop)
    operations = counter.get_flop_counts()
    return [
        StageCount(
            name,
            outputs[name],
            sum(layer.weight.numel() for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)),
            sum(parameter.numel() for parameter in stage.parameters()),
            # Torch counts a multiplication and an addition as two operations.
            sum(operations.get(f"{type(network).__name__}.{name}", {}).values()) // 2,
        )
        for name, stage in network.named_children()
    ]


def table1_counts(counts: Sequence[StageCount]) -> list[tuple[str, str, int, str | None, int, str | None]]:
    """The rows of Table 1: layer, output, counted and printed weights, counted and printed multiply-adds."""
    by_name = {count.name: count for count in counts}
    # The 1×1 convolution conv2 is part of the row of the 3×3 after it.
    reduction, convolution = by_name["conv2"], by_name.pop("conv3")
    by_name["conv2"] = replace(
        reduction,
        output=convolution.output,
        weights=reduction.weights + convolution.weights,
        multiply_adds=reduction.multiply_adds + convolution.multiply_adds,
    )
    rows = []
    for name, count in by_name.items():
        channels, *size = count.output
        output = "×".join(map(str, [*size, channels] if size else [1, 1, channels]))
        weights, multiply_adds = TABLE_1.get(name, (None, None))
        rows.append((name, output, count.weights, weights, count.multiply_adds, multiply_adds))
    return rows


def claim_lines(counts: Sequence[StageCount]) -> list[str]:
    """The counted totals, and the two claims of the paper about them."""
    weights = sum(count.weights for count in counts)
    parameters = sum(count.parameters for count in counts)
    operations = sum(count.multiply_adds for count in counts)
    alexnet = sum(kernel**2 * inputs * outputs for kernel, inputs, outputs in ALEXNET_LAYERS)
    return [
        f"weights {weights:,}; with biases and normalisation {parameters:,} parameters",
        f"multiply-adds {operations:,}: {operations / 1e9:.2f} billion; "
        f"the paper says {CLAIMED_MULTIPLY_ADDS / 1e9:g} billion",
        f"AlexNet has {alexnet:,} weights, {alexnet / weights:.1f} times as many; "
        f"the paper says {CLAIMED_TIMES_FEWER} times",
    ]


def _figures(counted: float, unit: str, printed: str | None) -> list[str]:
    """The counted figure, the printed figure, and a mark if they differ."""
    if printed is None:
        return ["", "", ""]
    digits = printed.removesuffix(unit)
    last = 10 ** -len(digits.partition(".")[2])
    agrees = float(digits) / last in (math.floor(counted / last), math.ceil(counted / last))
    return [f"{counted:.1f}{unit}", printed, "" if agrees else DIFFERS]


_COLUMNS = (
    Column("layer", "layer"),
    Column("output", "output"),
    Column("weights", "weights", "number"),
    Column("weights_printed", "printed", "number"),
    Column("weights_differ", ""),
    Column("multiply_adds", "multiply-adds", "number"),
    Column("multiply_adds_printed", "printed", "number"),
    Column("multiply_adds_differ", ""),
)
_NOTE = f"{DIFFERS} marks a printed figure that the counted one does not round to. K is 1024 and M a million."


def network_table(counts: Sequence[StageCount], title: str) -> Table:
    """Table 1 for people: counts in K and M, as the paper prints them.

    Printed and counted figures agree when the printed one is the counted one rounded up or down.

    Args:
        counts: The counts of all stages of a network.
        title: A phrase that names the network.

    Example:
        >>> from ensemble_eval.tables.formats import table_markdown
        >>> table = network_table(count_network("googlenet-paper", 1000), "Table 1")
        >>> print(table_markdown(table).splitlines()[4])
        | conv1 | 112×112×64 | 9.2K | 2.7K | ≠ | 118.0M | 34M | ≠ |
    """
    rows = tuple(
        (layer, output, *_figures(weights / KIBI, "K", of_weights), *_figures(adds / MILLION, "M", of_adds))
        for layer, output, weights, of_weights, adds, of_adds in table1_counts(counts)
    )
    return Table("table1", title, _COLUMNS, rows, (_NOTE, *(f"{each}." for each in claim_lines(counts))))


def network_counts(counts: Sequence[StageCount], title: str) -> Table:
    """Table 1 for programs: whole counts, and unchanged figures of the paper; arguments as of `network_table`."""
    columns = tuple(column for column in _COLUMNS if not column.key.endswith("_differ"))
    return Table("table1", title, columns, tuple(table1_counts(counts)))
