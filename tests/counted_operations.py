"""What torch is asked to do, one by one: on a GPU each of these, but views, is a launch or a copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    operations: list[str]

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_operations() -> Iterator[list[str]]:
    """The names of all operations of the block, views included."""
    counting = _Counting()  # type: ignore[no-untyped-call]  # torch's
    counting.operations = []
    with counting:
        yield counting.operations
