"""What bounds every engine: how fast this processor multiplies matrices. `python -m benchmarks.ceiling`."""

import argparse
import time

import torch

from benchmarks.results import Spread, spread
from benchmarks.work import PRECISIONS
from ensemble_eval.paper.counting import count_network

# Large enough to leave the start of a product behind; the fastest of them counts.
_SIZES = (1024, 2048, 4096)
_PRODUCTS = 9


def matrix_products(precision: str) -> Spread:
    """GFLOP/s of square matrix products, as torch does them with all its threads."""
    return max((_products(size, getattr(torch, precision)) for size in _SIZES), key=lambda one: one.median)


def _products(size: int, dtype: torch.dtype) -> Spread:
    generator = torch.Generator().manual_seed(size)
    left, right = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    product = torch.mm(left, right)
    rates = []
    for _ in range(_PRODUCTS):
        began = time.perf_counter()
        torch.mm(left, right, out=product)
        rates.append(2 * size**3 / (time.perf_counter() - began) / 1e9)
    return spread(rates)


def gflop_per_pass(width: float, classes: int) -> float:
    """Of one crop through one GoogLeNet; a multiply-add is two operations."""
    return 2 * sum(stage.multiply_adds for stage in count_network("googlenet", classes, width=width)) / 1e9


def ceiling_text(products: Spread, gflop: float | None) -> str:
    """The fact for the results; with what a pass takes, where that is known."""
    text = f"{products.text(0)} GFLOP/s, n = {products.n}"
    if gflop is None:
        return text
    at_most = f"{products.median / gflop:.0f} passes/s"
    return f"{text}; a pass takes {gflop:.2f} GFLOP, and at that rate there would be {at_most}"


def main() -> None:
    """Print the rate in one precision or in both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="[all]")
    arguments = parser.parse_args()
    for precision in arguments.precision or PRECISIONS:
        print(f"{precision}: {ceiling_text(matrix_products(precision), gflop_per_pass(1.0, 1000))}")


if __name__ == "__main__":
    main()
