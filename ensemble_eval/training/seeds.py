"""Random numbers that depend on what they are for, never on who asks or when.

Every draw of a training run comes from a seed derived from (member, epoch, image) or (member, step). So
the result does not depend on the number of loading processes, and a resumed run draws what an
uninterrupted one would have drawn.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(purpose: str, *numbers: int) -> int:
    """A seed in [0, 2**63) for one purpose and one place in the run, unrelated to those of any other."""
    text = "/".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block torch's CPU generator starts from `seed`; afterwards it is as it was before."""
    state = torch.random.get_rng_state()
    # The default generator directly: torch.manual_seed also looks for accelerators, ten times slower.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
