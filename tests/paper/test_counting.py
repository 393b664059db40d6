import pytest
from torchvision.models import GoogLeNet_Weights

from ensemble_eval.errors import InputError
from ensemble_eval.paper.counting import claim_lines, count_network, network_table


def test_a_module_is_counted_as_by_hand() -> None:
    counts = {count.name: count for count in count_network("googlenet-paper", 1000)}
    module = counts["inception3a"]
    # 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection; then a bias for each of their outputs.
    weights = 192 * 64 + 192 * 96 + 9 * 96 * 128 + 192 * 16 + 25 * 16 * 32 + 192 * 32
    assert module.output == (256, 28, 28)
    assert module.weights == weights == 163_328
    assert module.parameters == weights + 64 + 96 + 128 + 16 + 32 + 32
    assert module.multiply_adds == weights * 28 * 28


def test_output_sizes_are_those_of_table_1() -> None:
    sizes = {count.name: count.output for count in count_network("googlenet-paper", 1000)}
    assert sizes["conv1"] == (64, 112, 112)
    assert sizes["maxpool1"] == (64, 56, 56)
    assert sizes["conv3"] == (192, 56, 56)
    assert sizes["maxpool2"] == (192, 28, 28)
    assert sizes["inception3b"] == (480, 28, 28)
    assert sizes["maxpool3"] == (480, 14, 14)
    assert [sizes[f"inception4{letter}"] for letter in "abcde"] == [
        (512, 14, 14),
        (512, 14, 14),
        (512, 14, 14),
        (528, 14, 14),
        (832, 14, 14),
    ]
    assert sizes["maxpool4"] == (832, 7, 7)
    assert sizes["inception5b"] == (1024, 7, 7)
    assert sizes["avgpool"] == (1024, 1, 1)
    assert sizes["fc"] == (1000,)


def test_the_totals_are_torchvisions() -> None:
    counts = count_network("googlenet", 1000)
    published = GoogLeNet_Weights.IMAGENET1K_V1.meta
    assert sum(count.parameters for count in counts) == published["num_params"] == 6_624_904
    assert sum(count.multiply_adds for count in counts) / 1e9 == pytest.approx(published["_ops"], abs=0.01)


def test_the_papers_total_is_that_of_caffes_model() -> None:
    # bvlc_googlenet without its auxiliary heads.
    assert sum(count.parameters for count in count_network("googlenet-paper", 1000)) == 6_998_552


def test_table_1_stands_beside_the_counts_with_differences_marked() -> None:
    table1 = network_table(count_network("googlenet-paper", 1000), "Table 1")
    table = {line[0]: line[1:] for line in table1.cells()}
    titles = [column.title for column in table1.columns]
    assert titles == ["layer", "output", "weights", "printed", "", "multiply-adds", "printed", ""]
    assert table["conv1"] == ["112×112×64", "9.2K", "2.7K", "≠", "118.0M", "34M", "≠"]
    assert table["conv2"] == ["56×56×192", "112.0K", "112K", "", "359.7M", "360M", ""]
    assert table["inception3a"] == ["28×28×256", "159.5K", "159K", "", "128.0M", "128M", ""]
    assert table["inception4a"] == ["14×14×512", "366.8K", "364K", "≠", "73.6M", "73M", ""]
    assert table["maxpool1"] == ["56×56×64", "", "", "", "", "", ""]
    assert table["fc"] == ["1×1×1000", "1000.0K", "1000K", "", "1.0M", "1M", ""]
    assert "conv3" not in table


def test_the_two_claims_are_counted() -> None:
    weights, operations, alexnet = claim_lines(count_network("googlenet-paper", 1000))
    assert weights == "weights 6,990,272; with biases and normalisation 6,998,552 parameters"
    assert operations.startswith("multiply-adds 1,58")
    assert operations.endswith("1.58 billion; the paper says 1.5 billion")
    # 60,954,656 by the shapes of Krizhevsky et al., with two groups in three of the convolutions.
    assert alexnet == "AlexNet has 60,954,656 weights, 8.7 times as many; the paper says 12 times"


def test_half_the_width_has_a_quarter_of_the_weights_between_both_ends() -> None:
    full, half = ({c.name: c.weights for c in count_network("googlenet", 1000, width=w)} for w in (1.0, 0.5))
    ends = full["conv1"] + full["fc"]
    assert sum(half.values()) == (sum(full.values()) - ends) / 4 + ends / 2


def test_the_naive_modules_cost_several_times_the_reduced_ones() -> None:
    naive, paper = (
        sum(count.multiply_adds for count in count_network(arch, 1000))
        for arch in ("googlenet-naive", "googlenet-paper")
    )
    assert naive > 7 * paper


def test_a_python_callable_is_not_counted() -> None:
    with pytest.raises(InputError, match="describe counts the registry's architectures"):
        count_network("python:torch.nn:Identity", 10)
