"""Softmax vectors of the kinds that decisions could stumble over."""

import numpy as np
from numpy.typing import NDArray

# One-hot, uniform, tied, nearly tied, any.
KINDS = "hutna"


def softmax_row(kind: str, classes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One vector float64 [classes] that sums to 1."""
    row: NDArray[np.float64]
    match kind:
        case "h":
            row = np.zeros(classes)
            row[rng.integers(classes)] = 1
        case "u":
            row = np.ones(classes)
        case "t":
            row = rng.integers(1, 3, classes).astype(float)
        case "n":
            row = np.ones(classes)
            row += 1e-6 * rng.integers(0, 2, classes)
        case _:
            row = rng.exponential(size=classes) ** 3
    row /= row.sum()
    return row
