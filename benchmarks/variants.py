"""What makes the forward pass faster, and what does not: `python -m benchmarks.variants --precision bfloat16`.

One full-width GoogLeNet on resident crops, run in every way that could pay. The ways take turns, in a random
order each round; a way is compared within a round with the one that it changes. Batches have 16 crops unless a way
says otherwise.
"""

import argparse
import copy
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.machine import machine_facts
from benchmarks.networks import CLASSES, random_network
from benchmarks.results import spread
from benchmarks.work import PRECISIONS
from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.backends.openvino import Converter, OpenVinoNetwork
from ensemble_eval.backends.torch import Compiled
from ensemble_eval.models.layers import ConvolutionUnit, InceptionModule, fold_batch_norm
from ensemble_eval.settings import Precision

CROP_SIZE = 224
BATCH, LARGE_BATCH = 16, 48

Forward = Callable[[], Tensor]


class MergedInception(nn.Module):
    """An Inception module whose three 1×1 convolutions of one input are one.

    Args:
        module: with its batch norms folded.
    """

    def __init__(self, module: InceptionModule) -> None:
        super().__init__()
        assert isinstance(module.branch2, nn.Sequential)
        assert isinstance(module.branch3, nn.Sequential)
        units = (module.branch1, module.branch2[0], module.branch3[0])
        convolutions = [unit.conv for unit in units if isinstance(unit, ConvolutionUnit)]
        self.channels = [convolution.out_channels for convolution in convolutions]
        self.reductions = nn.Conv2d(convolutions[0].in_channels, sum(self.channels), 1)
        self.reductions.weight = nn.Parameter(torch.cat([convolution.weight for convolution in convolutions]))
        biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
        self.reductions.bias = nn.Parameter(torch.cat(biases))
        self.branch2, self.branch3, self.branch4 = module.branch2[1], module.branch3[1], module.branch4

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out, H, W], as the module that it was made from."""
        reduced = functional.relu(self.reductions(x), inplace=True)
        first, second, third = torch.split(reduced, self.channels, dim=1)
        return torch.cat([first, self.branch2(second), self.branch3(third), self.branch4(x)], dim=1)


def merged(network: nn.Module) -> nn.Module:
    """A copy of a folded GoogLeNet with all its Inception modules merged."""
    network = copy.deepcopy(network)
    for name, module in list(network.named_children()):
        if isinstance(module, InceptionModule):
            setattr(network, name, MergedInception(module))
    return network


@dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
        prepare: makes the function that runs one batch of pixels, float32 [B, 3, 224, 224].
        changes: the way that it is compared with; None for a first one.
        batch: crops in a batch.
    """

    prepare: Callable[[Tensor], Forward]
    changes: str | None
    batch: int = BATCH


def variants(precision: Precision) -> Mapping[str, Variant]:
    """The ways, by name, each after the one that it changes."""
    plain = random_network(0, 1.0).requires_grad_(False)
    folded = fold_batch_norm(copy.deepcopy(plain))
    first, last = torch.contiguous_format, torch.channels_last

    def eager(
        network: nn.Module, memory_format: torch.memory_format = last, *, once: bool = False
    ) -> Callable[[Tensor], Forward]:
        return lambda pixels: _eager(network, pixels, precision, memory_format, once=once)

    def compiled_by_torch(pixels: Tensor) -> Forward:
        return _compiled(folded, pixels, precision)

    def openvino(network: nn.Module) -> Callable[[Tensor], Forward]:
        return lambda pixels: _openvino(network, pixels, precision)

    ways = {
        "eager": Variant(eager(plain, first), None),
        "eager, channels last": Variant(eager(plain), "eager"),
        "eager, folded": Variant(eager(folded), "eager, channels last"),
        "eager, folded, batches of 48": Variant(eager(folded), "eager, folded", LARGE_BATCH),
        "eager, folded, merged": Variant(eager(merged(folded)), "eager, folded"),
        "compiled, folded": Variant(compiled_by_torch, "eager, folded"),
        "compiled, folded, batches of 48": Variant(compiled_by_torch, "compiled, folded", LARGE_BATCH),
        "openvino": Variant(openvino(plain), "eager, folded"),
        "openvino, batches of 48": Variant(openvino(plain), "openvino", LARGE_BATCH),
        "openvino, folded": Variant(openvino(folded), "openvino"),
        "openvino, folded, merged": Variant(openvino(merged(folded)), "openvino, folded"),
    }
    if precision != "float32":
        ways["eager, folded, weights converted once"] = Variant(eager(folded, once=True), "eager, folded")
    return ways


def _pixels(batch: int) -> Tensor:
    return torch.randn(batch, 3, CROP_SIZE, CROP_SIZE, generator=torch.Generator().manual_seed(0))


def _eager(
    network: nn.Module,
    pixels: Tensor,
    precision: Precision,
    memory_format: torch.memory_format,
    *,
    once: bool,
) -> Forward:
    """`once`: weights and pixels are converted beforehand; else autocast converts them in every batch."""
    dtype = getattr(torch, precision) if once else torch.float32
    network = copy.deepcopy(network).to(dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack this form
    pixels = pixels.to(dtype=dtype, memory_format=memory_format)
    return _forward(network, pixels, precision, autocast=not once)


def _compiled(network: nn.Module, pixels: Tensor, precision: Precision) -> Forward:
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    pixels = pixels.to(memory_format=torch.channels_last)
    return _forward(Compiled(network, torch.device("cpu")), pixels, precision)


def _forward(network: nn.Module, pixels: Tensor, precision: Precision, *, autocast: bool = True) -> Forward:
    dtype = getattr(torch, precision)

    @torch.inference_mode()
    def forward() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=autocast and dtype != torch.float32):
            logits: Tensor = network(pixels)
            return logits

    return forward


def _openvino(network: nn.Module, pixels: Tensor, precision: Precision) -> Forward:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    compiled = OpenVinoNetwork(Converter(CROP_SIZE)(copy.deepcopy(network)), precision)
    predict = NetworkPredict("variant", lambda batch: batch, CLASSES, compiled)
    return lambda: predict(pixels)


def measure(ways: Mapping[str, Variant], rounds: int, crops: int, seed: int) -> list[dict[str, float]]:
    """Passes per second of every way, by name, one dictionary a round; about `crops` are run each time."""
    forwards = {name: way.prepare(_pixels(way.batch)) for name, way in ways.items()}
    for forward in forwards.values():
        forward()
    measured = []
    for number in range(rounds):
        names = list(forwards)
        random.Random(f"{seed}-{number}").shuffle(names)
        measured.append({name: _rate(forwards[name], ways[name].batch, crops) for name in names})
    return measured


def _rate(forward: Forward, batch: int, crops: int) -> float:
    batches = max(1, round(crops / batch))
    began = time.perf_counter()
    for _ in range(batches):
        forward()
    return batches * batch / (time.perf_counter() - began)


def report(changes: Mapping[str, str | None], rounds: Sequence[Mapping[str, float]]) -> str:
    """A Markdown table: each way's rate, and its ratio to the way that it changes."""
    lines = ["| | passes/s | | over |", "|---|--:|--:|---|"]
    for name, other in changes.items():
        rates = spread([one[name] for one in rounds]).text(1)
        ratio = spread([one[name] / one[other] for one in rounds]).text(2, "×") if other else "–"
        lines.append(f"| {name} | {rates} | {ratio} | {other or '–'} |")
    return "\n".join([*lines, "", f"Median (least–greatest), n = {len(rounds)}."])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--crops", type=int, default=144, help="passes of each measurement [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the order [%(default)s]")
    arguments = parser.parse_args()
    facts = machine_facts()
    ways = variants(arguments.precision)
    measured = measure(ways, arguments.rounds, arguments.crops, arguments.seed)
    print("\n".join(f"{name}: {facts[name]}" for name in ("machine", "CPU flags", "versions")), end="\n\n")
    print(report({name: way.changes for name, way in ways.items()}, measured))


if __name__ == "__main__":
    main()
