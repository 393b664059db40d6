"""TensorFlow's padding, against the definition written out by hand."""

import torch
from torch.nn import functional

from ensemble_eval.models.layers import SameConvolution
from ensemble_eval.models.registry import build


def test_an_odd_zero_goes_right_and_below() -> None:
    convolution = SameConvolution(3, 4, 7, stride=2, bias=False)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(2, 3, 229, 229)
    padded[:, :, 2:226, 2:226] = x
    expected = functional.conv2d(padded, convolution.weight, stride=2)
    assert expected.shape[-2:] == (112, 112)
    torch.testing.assert_close(convolution(x), expected)


def test_sizes_that_divide_by_nothing_keep_their_rounded_up_half() -> None:
    convolution = SameConvolution(1, 1, 7, stride=2)
    for height, width in ((31, 33), (32, 45)):
        assert convolution(torch.zeros(1, 1, height, width)).shape[-2:] == (-(-height // 2), -(-width // 2))


def test_the_variants_print_what_tells_them_apart() -> None:
    printed = {repr(build(arch, 3, width=0.05)) for arch in ("googlenet", "googlenet-tensorflow")}
    assert len(printed) == 2
    paddle = repr(build("googlenet-paddle", 3, width=0.05))
    assert "ceil_mode=True" not in paddle
    assert "no activation" in paddle
