"""Published weights: input size and the one crop of their publisher, read from its configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from builders import encoded, picture
from conftest import Cli
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import ensemble_eval as ee
from ensemble_eval.crops.pixels import decode, prepare
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import Protocol
from ensemble_eval.errors import InputError
from ensemble_eval.members.importers import published as publishers
from ensemble_eval.members.importers.published import published

V3 = "torchvision:Inception_V3_Weights.IMAGENET1K_V1"


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which every file of the hub is looked for."""

    def from_hub(name: str, files: tuple[str, ...] = ("model.safetensors",)) -> Path:
        for file in files:
            if (tmp_path / file).is_file():
                return tmp_path / file
        raise InputError(f"hf:{name} has none of {', '.join(files)}")

    monkeypatch.setattr(publishers, "from_hub", from_hub)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, from which nothing is fetched."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.delattr(torch.hub, "download_url_to_file")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


Values = tuple[int, tuple[int, ...], str, str | None, str]


def _values(protocol: Protocol | None) -> Values:
    assert protocol is not None
    assert (protocol.name, protocol.schemes) == ("timm", (1,))
    return protocol.size, protocol.scales, protocol.fit, protocol.resampling, protocol.kernel


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 299 / 0.875 is 341.7, 299 / 0.8975 is 333.1, 224 / 0.95 is 235.8.
        ("inception_v3.tf_in1k", (299, (341,), "shorter", "bicubic", "pillow")),
        ("inception_resnet_v2.tf_in1k", (299, (333,), "shorter", "bicubic", "pillow")),
        ("vgg16.tv_in1k", (224, (256,), "shorter", "bilinear", "pillow")),
        ("resnet50.a1_in1k", (224, (235,), "shorter", "bicubic", "pillow")),
        ("resnet50.tv2_in1k", (176, (201,), "shorter", "bilinear", "pillow")),
        ("vit_tiny_patch16_384.augreg_in21k_ft_in1k", (384, (384,), "shorter", "bicubic", "pillow")),
        ("vit_base_patch16_clip_384.laion2b_ft_in12k_in1k", (384, (384,), "squeeze", "bicubic", "pillow")),
    ],
)
def test_timms_configuration_says_size_and_crop(downloads: Path, name: str, expected: Values) -> None:
    found = published(f"timm:{name}")
    assert (found.weights, found.arch) == (downloads / "model.safetensors", f"timm:{name}")
    assert found.input is not None
    assert found.input.size == expected[0]
    assert _values(found.protocol) == expected
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    assert (found.input.mean, found.input.std) == (tuple(config.mean), tuple(config.std))


def test_a_repository_of_the_hub_says_size_and_crop(downloads: Path) -> None:
    stated = {"input_size": [3, 288, 288], "crop_pct": 0.9, "crop_mode": "border", "interpolation": "bilinear"}
    stated |= {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "resnet18", "pretrained_cfg": stated}
    (downloads / "config.json").write_text(json.dumps(config))
    found = published("hf:timm/resnet18.a1_in1k")
    assert found.arch == "timm:resnet18"
    assert found.input == ee.InputFormat(mean=(0.5, 0.4, 0.3), std=(0.5, 0.5, 0.5), size=288)
    assert _values(found.protocol) == (288, (320,), "longer", "bilinear", "pillow")
    # Halves are rounded to even: 127.5 and 76.5.
    assert found.protocol is not None
    assert found.protocol.fill == (128, 102, 76)
    # What timm takes where a configuration is silent.
    del stated["crop_pct"], stated["crop_mode"]
    (downloads / "config.json").write_text(json.dumps(config))
    assert _values(published("hf:timm/resnet18.a1_in1k").protocol) == (
        288,
        (329,),
        "shorter",
        "bilinear",
        "pillow",
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_size": [3, 256, 192]}, "timm:a takes 192×256 pixels, and crops are squares; use another model"),
        ({"interpolation": "random"}, "`resampling` is one of 'nearest', .*, not 'random'"),
        ({"input_size": 224}, "is not timm's"),
        ({"crop_mode": "corner"}, "is not timm's"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    downloads: Path, changes: dict[str, object], sentence: str
) -> None:
    stated: dict[str, object] = {"input_size": [3, 224, 224], "interpolation": "bicubic"}
    stated |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]} | changes
    (downloads / "config.json").write_text(json.dumps({"architecture": "a", "pretrained_cfg": stated}))
    with pytest.raises(InputError, match=sentence):
        published("hf:owner/a")


HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 3}
SQUARE_224 = {"height": 224, "width": 224}
# Each processor as repositories of the hub have it, and some of earlier versions.
PROCESSORS: list[dict[str, Any]] = [
    HALF | {"image_processor_type": "ViTImageProcessor", "size": SQUARE_224, "resample": 2},
    HALF | {"image_processor_type": "ViTImageProcessor", "size": 384},
    HALF | {"image_processor_type": "ViTImageProcessor", "size": SQUARE_224, "do_normalize": False},
    HALF
    | {"image_processor_type": "DeiTImageProcessor", "size": {"height": 256, "width": 256}}
    | {"do_center_crop": True, "crop_size": SQUARE_224},
    HALF
    | {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
    | {"do_center_crop": True, "crop_size": SQUARE_224},
    HALF | {"image_processor_type": "CLIPImageProcessor", "size": 250, "do_center_crop": True, "crop_size": 223},
    HALF
    | {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 259}}
    | {"do_center_crop": True, "crop_size": SQUARE_224},
    HALF | {"image_processor_type": "SiglipImageProcessor", "size": SQUARE_224},
    HALF
    | {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}}
    | {"do_center_crop": True, "crop_size": SQUARE_224},
    HALF | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
    HALF | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.95},
    HALF | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
]


def _named(stated: dict[str, Any]) -> str:
    return f"{stated['image_processor_type'].removesuffix('ImageProcessor')}-{stated['size']}"


@pytest.mark.slow
@pytest.mark.parametrize("stated", PROCESSORS, ids=_named)
def test_a_processor_of_transformers_says_input_and_crop(downloads: Path, stated: dict[str, Any]) -> None:
    """The input of the network is that of transformers' own Pillow backend."""
    # Imported here: it takes half a second of every process that collects tests.
    import transformers

    processor = getattr(transformers, f"{stated['image_processor_type']}Pil").from_dict(stated)
    (downloads / "preprocessor_config.json").write_text(json.dumps(stated))
    found = published("hf:owner/a")
    assert found.arch is None
    assert found.input is not None
    assert found.protocol is not None
    assert found.input.size == found.protocol.size
    mean, std = (torch.tensor(values)[:, None, None] for values in (found.input.mean, found.input.std))
    for width, height in ((301, 233), (300, 421), (225, 224), (500, 375), (37, 64)):
        image = picture(width, height)
        source = prepare(decode(encoded(image)), CropRule((found.protocol,), 1).plan(width, height))
        [view] = source.plan.views
        ours = (source.cut(view) / found.input.scale - mean) / std
        [theirs] = processor(image, return_tensors="pt")["pixel_values"]
        # Less than a tenth of a grey level.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=4e-4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": {"height": 224, "width": 192}}, "192×224 pixels are no square"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "keeps the aspect ratio"),
        ({"size": {"shortest_edge": 224, "longest_edge": 900}}, "`size` has longest_edge, shortest_edge"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 256}, "`crop_size` is 256 pixels"),
        ({"size": "large"}, "contradicts itself"),
        ({"resample": 9}, "contradicts itself"),
    ],
)
def test_a_processor_that_cannot_be_is_refused(downloads: Path, changes: dict[str, Any], sentence: str) -> None:
    stated = HALF | {"image_processor_type": "ViTImageProcessor", "size": 224} | changes
    (downloads / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match=sentence):
        published("hf:owner/a")


@pytest.mark.parametrize(
    "stated",
    [
        None,
        [],
        HALF | {"size": 224},
        # It has an offset, and it takes the channels in the other order.
        HALF | {"image_processor_type": "EfficientNetImageProcessor", "size": 224},
        HALF | {"image_processor_type": "MobileViTImageProcessor", "size": 224},
        HALF | {"image_processor_type": "ViTImageProcessor", "size": 224, "do_rescale": False},
        HALF | {"image_processor_type": "ViTImageProcessor", "size": 224, "do_resize": False},
        HALF | {"image_processor_type": "ViTImageProcessor"},
    ],
)
def test_a_repository_that_leaves_it_open_says_nothing(downloads: Path, stated: object) -> None:
    (downloads / "config.json").write_text('{"architectures": ["ViT"]}')
    if stated is not None:
        (downloads / "preprocessor_config.json").write_text(json.dumps(stated))
    found = published("hf:owner/a")
    assert (found.arch, found.input, found.protocol) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GoogLeNet_Weights.IMAGENET1K_V1", (224, (256,), "shorter", "bilinear", "pillow")),
        ("Inception_V3_Weights.IMAGENET1K_V1", (299, (342,), "shorter", "bilinear", "pillow")),
        ("ResNet50_Weights.IMAGENET1K_V2", (224, (232,), "shorter", "bilinear", "pillow")),
        ("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", (384, (384,), "shorter", "bicubic", "pillow")),
    ],
)
def test_torchvisions_transform_says_size_and_crop(hub: Path, name: str, expected: Values) -> None:
    path = hub / torchvision.models.get_weight(name).url.rpartition("/")[2]
    path.write_bytes(b"")
    found = published(f"torchvision:{name}")
    assert found.weights == path
    assert _values(found.protocol) == expected
    if name.startswith("GoogLeNet"):
        assert (found.arch, found.input) == (None, None)
    else:
        assert found.input is not None
        assert found.input.size == expected[0]
        assert found.input.transform_input == name.startswith("Inception")


def _manifest(folder: Path, **stated: str) -> Path:
    fields = "".join(f'{name} = "{value}"\n' for name, value in stated.items())
    path = folder / "m.toml"
    path.write_text(f'name = "m"\nclasses = "imagenet-1k"\n[[members]]\nname = "a"\n{fields}')
    return path


def _labelled(folder: Path) -> list[str | Path]:
    """A data set of two pictures in a flat folder, and the option that labels them."""
    (folder / "val").mkdir()
    for number, size in enumerate(((60, 40), (40, 60))):
        picture(*size, seed=number).save(folder / "val" / f"{number}.png")
    (folder / "labels.csv").write_text("file,label\n0.png,3\n1.png,900\n")
    return [folder / "val", "--labels", folder / "labels.csv"]


def test_a_size_that_contradicts_the_protocol_is_refused(cli: Cli, hub: Path, tmp_path: Path) -> None:
    (hub / torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url.rpartition("/")[2]).write_bytes(b"")
    data = _labelled(tmp_path)
    for stated in ({}, {"protocol": "krizhevsky-10"}):
        name = stated.get("protocol", "googlenet")
        refused = cli(
            "run", *data, "--ensemble", _manifest(tmp_path, weights=V3, **stated), "--out", tmp_path / "o"
        )
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == (
            f"error: member a: it takes 299 pixels, and the protocol {name} cuts 224; choose another --protocol, "
            "or name one for the member in the manifest\n"
        )


@pytest.mark.slow
def test_inception_v3_of_torchvision_runs_from_the_command_line(cli: Cli, hub: Path, tmp_path: Path) -> None:
    network = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=True)
    torch.save(
        network.state_dict(), hub / torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    )
    manifest, data = _manifest(tmp_path, weights=V3), _labelled(tmp_path)
    options = ("--protocol", "inception-299", "--crops", "1", "--batch-size", "2", "--out", tmp_path / "out")
    finished = cli("run", *data, "--ensemble", manifest, *options)
    assert finished.code == 0, finished.err
    assert (tmp_path / "out" / "table3.csv").read_text().splitlines()[1].startswith("1,1,1,")
    # The published error of one crop stands beside ours.
    assert "5.6" in finished.out


@pytest.mark.slow
def test_a_vision_transformer_at_384_in_ten_lines_of_python(downloads: Path, tmp_path: Path) -> None:
    name = "vit_tiny_patch16_384.augreg_in21k_ft_in1k"
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    save_file(network.state_dict(), downloads / "model.safetensors")
    images = [(f"{seed}.png", seed, encoded(picture(70, 50, seed))) for seed in range(2)]

    ensemble = ee.open_ensemble(_manifest(tmp_path, weights=f"timm:{name}"))
    outcome = ee.evaluate(
        ensemble, images, protocol="timm", out=tmp_path / "out", device="cpu", backend="torch", batch_size=2
    )

    assert [(row.models, row.crops, row.images) for row in outcome.rows] == [(1, 1, 2)]
    transform = create_transform(**resolve_data_config(network.pretrained_cfg))  # type: ignore[no-untyped-call]  # timm leaves it untyped
    found = ee.read_results(tmp_path / "out").predictions(["image", "scores"])
    for (_, _, _), scores, seed in zip(images, found["scores"], range(2), strict=True):
        with torch.inference_mode():
            expected = network(transform(picture(70, 50, seed))[None]).softmax(dim=1)[0]
        torch.testing.assert_close(torch.tensor(scores), expected, rtol=1e-4, atol=1e-6)
