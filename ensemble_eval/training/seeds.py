"""Random numbers that depend on their purpose, and not on the process that draws them or on when it does.

Every draw of a training comes from a seed derived from (member, epoch, image) or (member, step). So the result
does not depend on the number of loading processes, and a resumed training draws the same numbers as one that was
not interrupted.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(purpose: str, *numbers: int) -> int:
    """A seed in [0, 2**63) for one purpose and one point of the training, unrelated to all other seeds."""
    text = "/".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start torch's CPU generator from a seed within the block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        # The default generator directly: torch.manual_seed also looks for accelerators, ten times slower.
        torch.default_generator.manual_seed(seed)
        yield
