import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_training import recipe_table, tiny_recipe

from ensemble_eval.errors import InputError
from ensemble_eval.training.config import Recipe, Sampling, read_recipe, recipe_from_table

MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.mark.parametrize("name", ["train-demo.toml", "train-imagenet.toml"])
def test_the_shipped_recipes_train_seven_of_which_one_is_wider(name: str) -> None:
    recipe = read_recipe(MANIFESTS / name)
    widths = sorted(plan.width for plan in recipe.members)
    assert [plan.name for plan in recipe.members] == list("abcdefg")
    assert widths[0] == widths[5] < widths[6]
    assert len({plan.seed for plan in recipe.members}) == 7
    assert recipe.schedule.auxiliary_weight > 0, "both heads take part"
    assert recipe.schedule.momentum == 0.9


def test_the_recipe_at_full_size_states_the_papers_values() -> None:
    recipe = read_recipe(MANIFESTS / "train-imagenet.toml")
    assert (recipe.schedule.lr_decay_period_epochs, recipe.schedule.lr_decay_factor) == (8, 0.96)
    assert recipe.schedule.auxiliary_weight == 0.3
    assert recipe.members[0].sampling.patch_area == (0.08, 1.0)
    assert recipe.members[0].sampling.patch_aspect == pytest.approx((3 / 4, 4 / 3))
    assert recipe.network.crop_size == 224


def test_paths_start_at_the_config_and_fields_have_the_papers_defaults() -> None:
    recipe = tiny_recipe(Path("/somewhere"))
    assert recipe.data.train == Path("/somewhere/train")
    assert recipe.schedule.lr_decay_factor == 0.96
    assert recipe.members[0].sampling == Sampling((0.08, 1.0), (3 / 4, 4 / 3))


def test_a_member_overrides_single_fields_of_the_sampling() -> None:
    recipe = tiny_recipe(sampling={"brightness": 0.2})
    assert recipe.member("b").sampling == Sampling(patch_area=(0.5, 1.0), brightness=0.2)
    assert recipe.member("a").sampling == Sampling(brightness=0.2)


IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("unknown field", {"epoch": 3}, "tiny.toml: unknown field 'epoch'; remove it or fix its name"),
    ("unknown part", {"network": {"depth": 3}}, "[network]: unknown field 'depth'"),
    ("no such precision", {"precision": "float8"}, "precision is one of 'float32', 'bfloat16', not 'float8'"),
    ("epochs", {"schedule": {"epochs": 0}}, "[schedule]: epochs is a whole number of at least 1"),
    ("fraction", {"schedule": {"epochs": 2.5}}, "epochs is a whole number, not 2.5"),
    ("boolean", {"schedule": {"epochs": True}}, "epochs is a whole number, not True"),
    ("rate", {"schedule": {"learning_rate": 0}}, "learning_rate is a number above 0"),
    ("NaN", {"schedule": {"learning_rate": float("nan")}}, "learning_rate is a number, not nan"),
    ("momentum", {"schedule": {"momentum": 1.0}}, "momentum is a number of at least 0 and below 1"),
    ("averaging", {"schedule": {"averaging_start_epoch": 3}}, "averaging_start_epoch is below epochs"),
    ("warm-up", {"schedule": {"warmup_epochs": 4}}, "warmup_epochs is at most epochs"),
    ("area", {"sampling": {"patch_area": [0.5, 0.1]}}, "patch_area is [lowest, highest]"),
    ("area above 1", {"sampling": {"patch_area": [0.5, 1.1]}}, "patch_area[1] is a number above 0"),
    ("one area", {"sampling": {"patch_area": [0.5]}}, "patch_area is a list of 2 numbers"),
    ("text", {"data": {"train": 3}}, "[data]: train is a path, not 3"),
    ("flag", {"data": {"cache_decoded": 1}}, "cache_decoded is true or false, not 1"),
    ("table", {"sampling": 3}, "sampling is a table, not 3"),
    ("no members", {"members": []}, "there are no members"),
    ("members", {"members": 3}, "members are written as [[members]] tables"),
    ("member", {"members": [3]}, "members are written as [[members]] tables"),
    ("no seed", {"members": [{"name": "a"}]}, "member 1: the field 'seed' is missing; add it"),
    ("width", {"members": [{"name": "a", "seed": 1, "width": 0}]}, "width is a number above 0"),
    ("path", {"members": [{"name": "../a", "seed": 1}]}, "'../a' cannot serve as a file name"),
    ("kept name", {"members": [{"name": "Ensemble", "seed": 1}]}, "and not 'ensemble'"),
    ("same file", {"members": [{"name": "a", "seed": 1}, {"name": "A", "seed": 2}]}, "two members are named 'A'"),
    (
        "override",
        {"members": [{"name": "a", "seed": 1, "sampling": {"hue": 1}}]},
        "member 1, [sampling]: unknown field 'hue'",
    ),
]


@pytest.mark.parametrize(
    ("parts", "sentence"), [row[1:] for row in IMPOSSIBLE], ids=[row[0] for row in IMPOSSIBLE]
)
def test_what_cannot_be_is_refused_with_the_field_and_the_remedy(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        tiny_recipe(**parts)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("table", "field"), [("data", "train"), ("schedule", "epochs"), ("schedule", "learning_rate")]
)
def test_a_missing_field_is_named(table: str, field: str) -> None:
    document = copy.deepcopy(recipe_table())
    del document[table][field]
    with pytest.raises(InputError, match=rf"\[{table}\]: the field '{field}' is missing; add it"):
        recipe_from_table(document, "tiny.toml", Path())


@pytest.mark.parametrize(("content", "reason"), [(b"a = [", "not valid TOML"), (b"\xff", "not UTF-8")])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_recipe(tmp_path / "recipe.toml")


def test_a_missing_config_and_an_unknown_member_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(InputError, match="no member 'x'; its members are a, b, c"):
        tiny_recipe().member("x")


def test_what_decides_the_weights_tells_members_apart_but_not_folders() -> None:
    here, there = tiny_recipe(Path("/here")), tiny_recipe(Path("/there"), save_every_steps=7)

    def decides(recipe: Recipe, name: str) -> dict[str, Any]:
        return recipe.what_decides_the_weights(recipe.member(name))

    assert decides(here, "a") == decides(there, "a")
    different = {key for key, value in decides(here, "a").items() if decides(here, "b")[key] != value}
    assert different == {"member.seed", "sampling.patch_area"}


def test_reading_a_recipe_needs_no_torch() -> None:
    program = "import ensemble_eval.training.config, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
