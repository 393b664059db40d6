"""The methods paragraphs of six runs: each sentence is compared with `run.json`, and none may be left over."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import CLASS_NAMES, colour_classifier, encoded, picture
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.reports.api import read_results
from ensemble_eval.reports.methods import BIBLIOGRAPHY, methods_text
from ensemble_eval.results.analyses import analyse
from ensemble_eval.tables.table import in_words

pytestmark = pytest.mark.slow
Record = Mapping[str, Any]
PROTOCOL = """name = "mine"
size = 224
scales = [230, 256]
fit = "squeeze"
kernel = "pillow"
resampling = "lanczos"
schemes = [1, 2]
"""
# How each run deviates: arguments of `open_dataset`, of `evaluate` and of `analyse`, and the number of members.
RUNS: dict[str, tuple[Record, Record, Record, int]] = {
    "full": ({}, {"crops": 10}, {"recipe": ["a", "c"]}, 3),
    "decided sample": ({"sample": 9, "seed": 3}, {"crops": 10, "until_decided": True}, {"margin_points": 2}, 2),
    "several labels": ({"labels": "real.json", "blacklist": "blacklist"}, {"protocol": "krizhevsky-10"}, {}, 1),
    "its classes": (
        {"subset_classes": "dataset", "limit": 8},
        {"precision": "bfloat16", "store_scores": False, "crops": 10},
        {},
        2,
    ),
    "own protocol": ({}, {"protocol": "mine.toml", "top1": True, "until_decided": True}, {"clusters": 4}, 2),
    "one row": ({}, {"crops": 1}, {}, 1),
}
IMAGES = 12


@dataclass(frozen=True)
class Told:
    """A run's text and what its other files say."""

    sentences: tuple[str, ...]
    record: Record
    rows: int
    analysed: Mapping[str, Any]


def member(name: str, seed: int) -> Member:
    return Member(name, predict=colour_classifier(seed), fingerprint=name)


@pytest.fixture(scope="module", params=list(RUNS))
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    root, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out")
    opened, evaluated, analysed, members = RUNS[request.param]
    for index in range(IMAGES):
        folder = root / "val" / CLASS_NAMES[index % 6]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"ILSVRC2012_val_{index + 1:08}.png"
        (folder / name).write_bytes(b"no image" if index == 7 else encoded(picture(60 + index, 50, seed=index)))
    (root / "real.json").write_text(json.dumps([[index % 7, 6] if index else [] for index in range(IMAGES)]))
    (root / "blacklist").write_text("2\n5\n")
    (root / "mine.toml").write_text(PROTOCOL)
    files = {"labels", "blacklist", "protocol"}
    opened, evaluated = (
        {
            name: root / value if name in files and (root / value).exists() else value
            for name, value in given.items()
        }
        for given in (opened, evaluated)
    )
    dataset = open_dataset(root / "val", CLASS_NAMES, **opened)
    ensemble = Ensemble(
        [member(name, seed) for seed, name in zip(range(members), "abc", strict=False)], CLASS_NAMES
    )
    evaluate(ensemble, dataset, out=out, device="cpu", **evaluated)
    results, table = read_results(out), (out / "table3.csv").read_text().splitlines()
    clusters = np.arange(len(results.images)) % analysed["clusters"] if "clusters" in analysed else None
    text = methods_text(results, analyse(results, **{**analysed, "clusters": clusters}))
    sentences = tuple(re.split(r"(?<=\.)\s+(?=[A-Z])", text.strip()))
    return Told(sentences, json.loads((out / "run.json").read_text()), len(table) - 1, analysed)


def protocol_of(record: Record) -> Record:
    googlenet = {"name": "googlenet", "size": 224, "fit": "shorter", "kernel": "torch", "resampling": None}
    found: Record = record["key"]["member a"].get("protocol", googlenet)
    return found


def scales_of(record: Record) -> str:
    """The first ten crops of `googlenet` are of one scale; the own protocol has a crop of each of two."""
    return {"googlenet": "256", "krizhevsky-10": "256", "mine": "230 or 256"}[protocol_of(record)["name"]]


def crops_of(record: Record) -> str:
    return in_words(record["key"]["crops"], "crop")


def several(told: Told) -> bool:
    return bool(told.record["key"].get("scope", {}).get("several_labels"))


def dependent(told: Told) -> bool:
    return several(told) or "clusters" in told.analysed


def where(condition: bool, *values: str) -> list[tuple[str, ...]]:
    return [values] if condition else []


def versions(record: Record, *names: str) -> tuple[str, ...]:
    [execution] = record["executions"]
    return tuple(execution["versions"][name] for name in names)


def saved(record: Record) -> float:
    return float(100 * record["passes_saved"] / (record["passes"] + record["passes_saved"]))


def expected(told: Told) -> dict[str, list[tuple[str, ...]]]:
    """A pattern for each sentence, and its groups in each place where the sentence stands, from `run.json`."""
    t, r, k = told, told.record, told.record["key"]
    return {
        r"We evaluated (.*) \(data set fingerprint (\w+)\)\.": [
            (in_words(r["images"], "image"), r["dataset_sha256"][:12])
        ],
        r"We left out (.*) that could not be read\.": where(r["unreadable_images"] > 0, "one image"),
        r"Counted: (.*)\.": where(bool(r["counted"]), "; ".join(r["counted"])),
        r"Each image has one label\.": where(not several(t)),
        r"Labels are ranked among all (\d+) classes\.": where(
            not any("ranked among" in each for each in r["counted"]), str(k["classes"])
        ),
        r"The (network is|ensemble has .* members:) (.*); the digits begin .*\.": [
            (
                "network is"
                if len(k["members"]) == 1
                else f"ensemble has {in_words(len(k['members']), 'member')}:",
                ", ".join(
                    f"{name} ({k[f'member {name}']['arch']}, {r['weights_sha256'][name][:12]})"
                    for name in k["members"]
                ),
            )
        ],
        r"We cut (.*) of (\d+)×\2 pixels from each image, after resizing it with (\w+)'s (\w+) filter so that "
        r"(\D+) (\d[\d or]*) pixels \(protocol ([\w-]+)( \[@\w+\])?\)\.": [
            (
                crops_of(r),
                str(protocol_of(r)["size"]),
                {"torch": "PyTorch", "pillow": "Pillow"}[protocol_of(r)["kernel"]],
                protocol_of(r)["resampling"] or k["interpolation"],
                {"shorter": "its shorter side is", "squeeze": "both sides are"}[protocol_of(r)["fit"]],
                scales_of(r),
                protocol_of(r)["name"],
                {"googlenet": " [@szegedy2015]", "krizhevsky-10": " [@krizhevsky2012]"}.get(
                    protocol_of(r)["name"], ""
                ),
            )
        ],
        r"Rows with one crop use the first of these crops\.": where(k["crops"] > 1),
        r"Softmax outputs are averaged(.*), with equal weights\.": where(
            k["crops"] * len(k["members"]) > 1,
            " and then".join(
                [
                    *([" over crops"] if k["crops"] > 1 else []),
                    *([" over members"] if len(k["members"]) > 1 else []),
                ]
            ),
        ),
        r"Among classes with equal scores, the one with the lower index ranks first\.": [()],
        r"An image counts as a top-k error \(k = (.*)\) if (.*) among the k best classes\.": [
            (
                "5" if k["until_decided"] == ["top-5"] else "5 and 1",
                "none of its labels is" if several(t) else "its label is not",
            )
        ],
        r"Rows of one model use (\w), the member with the lowest top-1 error with one crop on these images, .*": (
            where(len(k["members"]) > 1, r["one_model_member"])
        ),
        r"Each image was run only until its (.*) outcome was certain for every row(, which saved (.*)%.*)?; .*": (
            where(
                bool(k["until_decided"]),
                " and ".join(k["until_decided"]),
                f", which saved {saved(r):.1f}% of the passes" if saved(r) else "",
                f"{saved(r):.1f}" if saved(r) else "",
            )
        ),
        r"Convolutions ran in (\w+) with (\w+); softmax .* half precision\.": [
            (r["precision"], {"torch": "PyTorch", "openvino": "OpenVINO"}[r["backend"]])
        ],
        r"Intervals and tests treat the images as a sample and the weights as fixed\.": [()],
        r"Errors have Wilson's 95% score interval \[@wilson1927\]\.": [()],
        r"Differences are paired by image and have Tango's 95% score interval \[@tango1998\]\.": where(t.rows > 1),
        r"We call two rows different if (.*) is significant at the 5% level\.": where(
            t.rows > 1,
            "an exact permutation test that flips the sign of each cluster's difference"
            if "clusters" in t.analysed
            else "the exact McNemar test [@mcnemar1947]",
        ),
        r"We call them equal within ([\d.]+) percentage points if two one-sided tests .* same level\.": where(
            t.rows > 1, f"{t.analysed.get('margin_points', 0.5)}"
        ),
        r"P-values of the (\d+) comparisons with the first row are adjusted by Holm's method \[@holm1979\]\.": (
            where(t.rows > 2, str(t.rows - 1))
        ),
        r"The images are in (\d+) clusters: .* design effect \[@kish1965; @korn1998\]\.": where(
            "clusters" in t.analysed, str(t.analysed.get("clusters"))
        ),
        r"For each class, we report false discovery rates by .* Benjamini and (\w+) \[@(\w+)\]\.": (
            where(t.rows > 1, *(("Yekutieli", "benjamini2001") if dependent(t) else ("Hochberg", "benjamini1995")))
        ),
        r"For ensembles of some members, compared .* by the method of Benjamini and Yekutieli .*": where(
            k["scores"] and "counted_classes" not in k.get("scope", {}) and len(k["members"]) > 1
        ),
        r"The intervals over the members (.*), trained by one recipe, are .* these images fixed\.": where(
            "recipe" in t.analysed, ", ".join(t.analysed.get("recipe", ()))
        ),
        r"Calibration is measured by the expected calibration error over 15 bins .* of the best class\.": (
            where(not k["until_decided"])
        ),
        r"Predictions were computed by ensemble-eval (\S+) on CPUs with Python (\S+), PyTorch (\S+) "
        r"\[@paszke2019\], torchvision (\S+?),? (?:and )?Pillow (\S+?)( and OpenVINO \S+)?\.": [
            (
                *versions(r, "ensemble-eval", "python", "torch", "torchvision", "pillow"),
                " and OpenVINO {}".format(*versions(r, "openvino")) if r["backend"] == "openvino" else "",
            )
        ],
        r"The statistics were computed with SciPy \S+ \[@virtanen2020\]\.": [()],
    }


def test_every_sentence_is_what_run_json_says(told: Told) -> None:
    matched = []
    for pattern, groups in expected(told).items():
        places = [match for each in told.sentences if (match := re.fullmatch(pattern, each))]
        found = [tuple(group or "" for group in match.groups()) for match in places]
        assert found == groups, pattern
        matched += [match[0] for match in places]
    assert sorted(matched) == sorted(told.sentences)


def test_every_citation_is_in_the_bibliography(told: Told) -> None:
    keys = re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY.read_text(), re.MULTILINE)
    assert len(set(keys)) == len(keys)
    assert set(re.findall(r"@(\w+)", " ".join(told.sentences))) <= set(keys)


def test_members_with_their_own_protocols_are_told(tmp_path: Path) -> None:
    small = Member("small", predict=colour_classifier(1), fingerprint="1", protocol="resnet-10")
    ensemble = Ensemble([member("a", 0), small], CLASS_NAMES)
    images = [(f"{index}.png", index, encoded(picture(60, 50, seed=index))) for index in range(3)]
    evaluate(ensemble, images, protocol="krizhevsky-10", out=tmp_path, device="cpu")
    results = read_results(tmp_path)
    text = methods_text(results, analyse(results))
    assert "For a, we cut ten crops of 224×224 pixels from each image, after resizing it with PyTorch's " in text
    assert "For small, we cut ten crops of 224×224 pixels" in text
    assert (
        "with PyTorch's bicubic filter so that its shorter side is 256 pixels (protocol resnet-10 [@he2016])"
        in text
    )


def test_an_unfinished_run_says_so_and_names_no_versions(tmp_path: Path) -> None:
    run = stored_run(tmp_path, simulated_scores(20, 2), of_images=30)
    text = methods_text(run, analyse(run, partial=True))
    assert text.startswith("This run is unfinished: 10 of 30 images are missing. We evaluated 20 images (")
    assert "Predictions were computed by" not in text
