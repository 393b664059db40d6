"""`ensemble-eval run` in float16 on a CPU that lacks it: `python -m benchmarks.float16_on_cpu DATASET …`.

Takes the options of `run`. torch's own float16 convolutions are several times slower there than float32. Here they
and the fully connected layers are computed as a GPU's matrix units do: operands in float16, sums in float32, the
result rounded to float16. Everything else is torch's own float16. Made to count the decisions that float16 changes
(`ensemble-eval compare`), not for timing.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ensemble_eval.cli import run_command_line

# As they are called in inference mode, which the backend runs in.
_PRODUCTS = {torch.ops.aten.conv2d, torch.ops.aten.linear}


class SumsInFloat32(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own, not annotated
    """While entered, convolutions and fully connected layers of float16 tensors sum in float32.

    Attributes:
        products: how many were computed this way.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.products = 0

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation."""
        options = options or {}
        if operation.overloadpacket not in _PRODUCTS or not any(map(_is_half, arguments)):
            return operation(*arguments, **options)
        self.products += 1
        widened = [argument.float() if _is_half(argument) else argument for argument in arguments]
        return operation(*widened, **options).half()


def _is_half(argument: object) -> bool:
    return isinstance(argument, torch.Tensor) and argument.dtype == torch.float16


def main(run: Callable[[], int] = run_command_line) -> int:
    """See the module; the exit code is that of `run`, or 1 if nothing was computed in float16."""
    sys.argv[1:] = ["run", *sys.argv[1:], "--device", "cpu", "--backend", "torch", "--precision", "float16"]
    with SumsInFloat32() as mode:
        code = run()
    # A run that ended well or with unreadable images, and not here.
    if code in (0, 3) and not mode.products:
        print("error: no convolution ran in float16 in this process; --ranks does not go with it", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
