"""`make mutants` lists what no test notices, leaves the working tree alone, and hides nothing new."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from operators import mutants_of, sample

FOLDER = Path(__file__).parent

MODULE = '''"""Sums."""

from dataclasses import dataclass

LIMIT = 3


@dataclass(frozen=True)
class Sum:
    """A sum."""

    value: int = 0

    def __repr__(self) -> str:
        return f"<{self.value + 1}>"


def clipped(values: list[int]) -> int:
    """The sum up to a limit, of which nobody tests that it is one."""
    total = 0
    for value in values:
        if value is None:
            continue
        total += value
    if total > 99:
        raise ValueError(f"{total - 1} is too much")
    return min(total, LIMIT)
'''
TEST = """from ensemble_eval.sums.clip import clipped


def test_the_sum_is_clipped() -> None:
    assert clipped([1, 1]) == 2
    assert clipped([1, 2, 5]) == 3
"""
CHANGES = [
    ("constant", "clip.py, module: LIMIT = 3 → LIMIT = 4"),
    ("constant", "clip.py, Sum: value: int = 0 → value: int = 1"),
    ("constant", "clip.py, clipped: total = 0 → total = 1"),
    ("comparison", "clip.py, clipped: if value is None: → if value is not None:"),
    ("dropped statement", "clip.py, clipped: continue → pass"),
    ("dropped statement", "clip.py, clipped: total += value → pass"),
    ("arithmetic", "clip.py, clipped: total += value → total -= value"),
    ("comparison", "clip.py, clipped: if total > 99: → if total >= 99:"),
    ("constant", "clip.py, clipped: if total > 99: → if total > 100:"),
    ("dropped statement", 'clip.py, clipped: raise ValueError(f"{total - 1} is too much") → pass'),
    ("arithmetic", "clip.py, clipped: return min(total, LIMIT) → return max(total, LIMIT)"),
]
UNNOTICED = [CHANGES[1][1], CHANGES[4][1], *(key for _, key in CHANGES[7:10])]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A package of one module in a repository of its own."""
    files = {
        "ensemble_eval/__init__.py": "",
        "ensemble_eval/sums/__init__.py": "",
        "ensemble_eval/sums/clip.py": MODULE,
        "tests/sums/test_clip.py": TEST,
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\n",
        ".gitignore": "ignored\n",
        "ignored": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def _examine(clone: Path, *more: str) -> tuple[int, str]:
    """Its exit code and what it prints. Without torch, which the tests of this clone do without."""
    call = "import mutants, sys; mutants.PRELOADED = (); sys.exit(mutants.main(sys.argv[1:]))"
    command = [sys.executable, "-c", call, "--root", str(clone), "--package", "sums", "--count", "99", *more]
    finished = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout + finished.stderr


def _list(clone: Path, *keys: str, kind: str = "equivalent") -> None:
    (clone / "tests" / "mutation").mkdir(exist_ok=True)
    entries = (f"[[mutants]]\nkey = '''{key}'''\nclass = '{kind}'\nwhy = 'nobody asks'\n" for key in keys)
    (clone / "tests" / "mutation" / "known.toml").write_text("\n".join(entries), encoding="utf-8")


def test_changes_are_those_that_can_change_a_number(clone: Path) -> None:
    found = mutants_of(clone / "ensemble_eval" / "sums" / "clip.py")
    assert sorted((each.kind, each.key) for each in found) == sorted(CHANGES)
    for mutant in found:
        ast.parse(mutant.source)
        before, after = MODULE.splitlines(), mutant.source.splitlines()
        changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new]
        assert changed == [mutant.line]


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("a * (b + c)", ["a / (b + c)", "a * (b - c)"]),
        ("a  not  in b", ["a  in b"]),
        ("a is not b", ["a is b"]),
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("not (a and b)", [" (a and b)", "not (a or b)"]),
        ("-a ** 2", ["a ** 2", "-a * 2", "-a ** 3"]),
        ("'ä' == a", ["'ä' != a"]),
        ("x.all(axis=-1)", ["x.any(axis=-1)", "x.all(axis=1)", "x.all(axis=-2)"]),
        ("[0.5, True, 0.0]", ["[1.0, True, 0.0]", "[0.5, False, 0.0]", "[0.5, True, 1.0]"]),
        ("b if a else c", ["b if (not a) else c"]),
        ("zip(a, b, strict=True)", []),
    ],
)
def test_every_operator_is_changed_where_it_stands(line: str, changed: list[str], tmp_path: Path) -> None:
    module = tmp_path / "one.py"
    module.write_text(f"x = {line}\n", encoding="utf-8")
    assert sorted(each.source for each in mutants_of(module)) == sorted(f"x = {each}\n" for each in changed)


def test_the_choice_is_the_seeds_and_outlasts_changes_elsewhere(clone: Path) -> None:
    module = clone / "ensemble_eval" / "sums" / "clip.py"
    chosen = [mutant.key for mutant in sample(mutants_of(module), 4, seed=1)]
    assert chosen == [mutant.key for mutant in sample(mutants_of(module), 4, seed=1)]
    assert any(chosen != [mutant.key for mutant in sample(mutants_of(module), 4, seed=seed)] for seed in (2, 3))
    module.write_text(f"# A line more.\n{MODULE}", encoding="utf-8")
    assert chosen == [mutant.key for mutant in sample(mutants_of(module), 4, seed=1)]


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.processes
def test_what_no_test_notices_is_listed_and_nothing_is_written_to_the_clone(clone: Path) -> None:
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    code, text = _examine(clone)
    assert code == 1
    assert [line.partition("] ")[2] for line in text.splitlines() if " [" in line] == UNNOTICED
    assert "noticed: 54.5% of those" in text
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.processes
def test_the_mutants_of_some_lines_can_be_tried_alone(clone: Path) -> None:
    _, text = _examine(clone, "--only", "total > 99", "--only", "return min")
    assert [line.partition("] ")[2] for line in text.splitlines() if " [" in line] == UNNOTICED[2:4]
    assert "noticed: 33.3% of those" in text


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.processes
def test_the_list_of_known_mutants_hides_these_alone(clone: Path) -> None:
    _list(clone, *UNNOTICED)
    # The line of a known mutant becomes another: the entry is told to be outdated, and the new mutants count.
    (clone / "ensemble_eval" / "sums" / "clip.py").write_text(MODULE.replace("total > 99", "total > 999"))
    code, text = _examine(clone)
    assert code == 1
    new = [key.replace("total > 99", "total > 999") for key in UNNOTICED[2:4]]
    new = [new[0].replace("total >= 99", "total >= 999"), new[1].replace("total > 100", "total > 1000")]
    assert [line.partition("] ")[2] for line in text.splitlines() if " [" in line] == new
    assert "listed, but no mutant any more: clip.py, clipped: if total > 99: → if total >= 99:" in text


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.processes
def test_tests_that_are_missing_or_fail_and_a_class_that_is_none_are_told(clone: Path) -> None:
    _list(clone, CHANGES[0][1], kind="harmless")
    assert "a mutant needs a class of equivalent, pace, wording and a reason" in _examine(clone)[1]
    _list(clone)
    (clone / "tests" / "sums" / "test_clip.py").write_text("def test_it() -> None:\n    assert False\n")
    assert "no test of sums passes" in _examine(clone)[1]
    (clone / "tests" / "sums").rename(clone / "tests" / "others")
    assert "there are no tests of sums: tests/sums/ is missing" in _examine(clone)[1]
