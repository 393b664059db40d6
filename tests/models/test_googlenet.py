from collections.abc import Callable

import pytest
import torch
from builders import randomise
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import GoogLeNet as TorchvisionGoogLeNet
from torchvision.models import GoogLeNetOutputs as TorchvisionOutputs

from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models.googlenet import NAIVE, PAPER, GoogLeNet, GoogLeNetOutputs
from ensemble_eval.models.layers import (
    LRN,
    InceptionModule,
    LocalResponseNorm,
    Variant,
)
from ensemble_eval.models.registry import ARCHITECTURES, build
from ensemble_eval.models.stages import Inception

CLASSES = 11


def _torchvision(*, transform_input: bool = False, **dropout: float) -> nn.Module:
    network = TorchvisionGoogLeNet(
        CLASSES, aux_logits=True, transform_input=transform_input, init_weights=False, **dropout
    )
    return randomise(network, seed=1)


def _crops(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=generator)


def _with_weights_of(other: nn.Module, **options: float) -> nn.Module:
    network = build("googlenet", CLASSES, auxiliary_heads=True, **options)
    network.load_state_dict(other.state_dict())
    return network


def test_the_state_dict_is_torchvisions_key_for_key() -> None:
    with torch.device("meta"):
        theirs = TorchvisionGoogLeNet(CLASSES, init_weights=False).state_dict()
        ours = build("googlenet", CLASSES, auxiliary_heads=True).state_dict()
        without_heads = build("googlenet", CLASSES).state_dict()
    assert list(ours) == list(theirs)
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]
    assert list(without_heads) == [key for key in theirs if not key.startswith("aux")]


@pytest.mark.parametrize("transform_input", [False, True])
def test_logits_are_torchvisions(transform_input: bool) -> None:
    theirs = _torchvision(transform_input=transform_input)
    ours = _with_weights_of(theirs).eval()
    crops = _crops(1)
    # transform_input belongs to a member's input format here, to the network there.
    their_input = Preprocessing(InputFormat())(crops)
    our_input = Preprocessing(InputFormat(transform_input=transform_input))(crops)
    with torch.inference_mode():
        expected, actual = theirs(their_input), ours(our_input)
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_all_three_outputs_are_torchvisions_in_train_mode() -> None:
    theirs = _torchvision(dropout=0.0, dropout_aux=0.0).train()
    ours = _with_weights_of(theirs, dropout=0.0, auxiliary_dropout=0.0).train()
    batch = Preprocessing(InputFormat())(_crops(2))
    with torch.inference_mode():
        expected, actual = theirs(batch), ours(batch)
    assert isinstance(expected, TorchvisionOutputs)
    assert isinstance(actual, GoogLeNetOutputs)
    torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.aux1, expected.aux_logits1, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.aux2, expected.aux_logits2, rtol=1e-5, atol=1e-5)


def test_heads_are_silent_in_eval_mode_and_absent_without_them() -> None:
    batch = torch.zeros(2, 3, 64, 64)
    with torch.inference_mode():
        assert isinstance(build("googlenet", 3, auxiliary_heads=True, width=0.02).eval()(batch), Tensor)
        assert isinstance(build("googlenet", 3, width=0.02).train()(batch), Tensor)


def _submodules(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, kind)]


@pytest.fixture(scope="module")
def paper() -> nn.Module:
    with torch.device("meta"):
        return build("googlenet-paper", 1000, auxiliary_heads=True)


def test_the_papers_network_normalises_after_the_first_pool_and_the_3x3_convolution(paper: nn.Module) -> None:
    assert isinstance(paper, GoogLeNet)
    trunk = [name for name, _ in paper.named_children()]
    assert trunk[:7] == [
        "conv1",
        "maxpool1",
        "maxpool1_lrn",
        "conv2",
        "conv3",
        "conv3_lrn",
        "maxpool2",
    ]
    assert _submodules(paper, nn.LocalResponseNorm) == ["maxpool1_lrn", "conv3_lrn"]
    for name in ("maxpool1_lrn", "conv3_lrn"):
        norm = paper.get_submodule(name)
        assert isinstance(norm, nn.LocalResponseNorm)
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 1)
    assert not _submodules(paper, nn.BatchNorm2d)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_local_response_normalisation_holds_large_activations_in_half_precision(dtype: torch.dtype) -> None:
    """The formula of AlexNet (section 3.3), by hand; the square of 300 is beyond float16."""
    large = [0.0, 300.0, 20.0, -7.0, 1000.0, 3.0]
    expected = [
        value / (1 + 1e-4 / 5 * sum(other**2 for other in large[max(0, i - 2) : i + 3])) ** 0.75
        for i, value in enumerate(large)
    ]
    norm = LocalResponseNorm(*LRN)
    activations = torch.tensor(large, dtype=dtype).view(1, 6, 1, 1)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        normalised = norm(activations)
    assert normalised.dtype == dtype
    torch.testing.assert_close(normalised.flatten(), torch.tensor(expected, dtype=dtype))


def test_the_papers_network_has_biases_and_true_5x5_convolutions(paper: nn.Module) -> None:
    convolutions = [module for module in paper.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 59  # 57 of the trunk, one in either head
    assert all(convolution.bias is not None for convolution in convolutions)
    # One 7×7, one 5×5 per Inception module, and one 3×3 per module and in the second row.
    sizes = [convolution.kernel_size[0] for convolution in convolutions]
    assert {size: sizes.count(size) for size in sorted(set(sizes))} == {1: 39, 3: 10, 5: 9, 7: 1}


def test_the_papers_heads_pool_5x5_with_stride_3_to_4x4(paper: nn.Module) -> None:
    for head, channels in (("aux1", 512), ("aux2", 528)):
        pool = paper.get_submodule(f"{head}.pool")
        assert isinstance(pool, nn.AvgPool2d)
        assert (pool.kernel_size, pool.stride) == (5, 3)
        assert pool(torch.empty(1, channels, 14, 14)).shape == (1, channels, 4, 4)
        assert paper.get_submodule(f"{head}.fc1").weight.shape == (1024, 128 * 4 * 4)
        assert paper.get_submodule(f"{head}.dropout").p == 0.7
    assert paper.get_submodule("dropout").p == 0.4


def test_the_papers_network_runs_in_both_modes() -> None:
    network = randomise(build("googlenet-paper", 3, auxiliary_heads=True, width=0.02), seed=0)
    batch = Preprocessing(InputFormat())(_crops(1))
    with torch.inference_mode():
        assert network(batch).shape == (1, 3)
        outputs = network.train()(batch)
    assert [output.shape for output in outputs] == [(1, 3)] * 3


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_trains_with_auxiliary_heads(arch: str) -> None:
    outputs = build(arch, 3, auxiliary_heads=True, width=0.02).train()(torch.zeros(2, 3, 224, 224))
    assert [output.shape for output in outputs] == [(2, 3)] * 3


ROW = Inception("any", 4, 3, 6, 2, 5, 7)


def _convolve(x: Tensor, weights: dict[str, Tensor], name: str, padding: int) -> Tensor:
    return functional.relu(
        functional.conv2d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], padding=padding)
    )


def _naive(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    branches = [_convolve(x, weights, f"branch{i + 1}", padding) for i, padding in enumerate((0, 1, 2))]
    return torch.cat([*branches, functional.max_pool2d(x, 3, 1, 1)], dim=1)


def _reduced(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    def chain(name: str, padding: int) -> Tensor:
        return _convolve(_convolve(x, weights, f"{name}.0", 0), weights, f"{name}.1", padding)

    pooled = functional.max_pool2d(x, 3, 1, 1)
    return torch.cat(
        [
            _convolve(x, weights, "branch1", 0),
            chain("branch2", 1),
            chain("branch3", 2),
            _convolve(pooled, weights, "branch4.1", 0),
        ],
        dim=1,
    )


@pytest.mark.parametrize(
    ("variant", "literal", "out_channels"),
    # Figure 2(a): 4 + 6 + 5 and the 9 of the input; Figure 2(b): 4 + 6 + 5 + 7.
    [(NAIVE, _naive, 24), (PAPER, _reduced, 22)],
)
def test_both_modules_of_figure_2_are_their_literal_computation(
    variant: Variant, literal: Callable[[Tensor, dict[str, Tensor]], Tensor], out_channels: int
) -> None:
    module = randomise(InceptionModule(variant, 9, ROW, 1.0), seed=3)
    x = torch.randn(2, 9, 11, 13, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        output = module(x)
    assert output.shape == (2, out_channels, 11, 13)
    torch.testing.assert_close(output, literal(x, dict(module.state_dict())), rtol=1e-5, atol=1e-6)


def test_the_naive_network_grows_from_module_to_module() -> None:
    with torch.device("meta"):
        network = build("googlenet-naive", 10)
    # 192 in; each module adds its 1×1, 3×3 and 5×5: 3a 224, 3b 416, then 4a … 5b.
    widths = [
        network.get_submodule(f"inception{name}").out_channels
        for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]
    assert widths == [416, 832, 1280, 1728, 2176, 2640, 3344, 4048, 4944]


# Module 5b has 384 + 384 + 128 + 128 channels; at 0.34 they are 131 + 131 + 44 + 44.
@pytest.mark.parametrize(("width", "channels"), [(0.5, 512), (0.34, 350), (2.0, 2048)])
def test_width_scales_every_channel_count_but_not_the_classes(width: float, channels: int) -> None:
    with torch.device("meta"):
        classifier = build("googlenet", 1000, width=width).get_submodule("fc")
    assert classifier.weight.shape == (1000, channels)
