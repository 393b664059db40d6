"""Change the package in small ways, one at a time, and list the changes that no test of the same package notices.

    python tests/mutation/mutants.py --package scoring

Ten mutants of each module are drawn with a fixed seed (`operators.py`). Nothing is written to the working tree:
mutants are made in a copy of it in a temporary folder, and tests import that. First all tests of a package run
once, and coverage says which of them run which lines. A mutant then gets the tests that run its line, the
quickest first, and behind them those that may see what it did to something shared. To exceed the time limit is to
be noticed.

`known.toml` lists mutants that no test can notice, or that change only pace or wording, each with its class and
the reason. An entry fits one change to one line of one function; entries that fit none any more are listed too.
"""

import argparse
import compileall
import importlib
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
from operators import Mutant, mutants_of, sample  # noqa: E402 (the path comes first)

# Those that compute numbers or keep images; names that a clone lacks are passed over.
PACKAGES = (
    "crops",
    "scoring",
    "engine",
    "store",
    "results",
    "evaluation",
    "datasets",
    "detection",
    "jobs",
    "members",
)
# Where else a package's tests are: the tables of an analysis are looked at in a report.
ALSO_TESTED_IN = {"results": ("reports",)}
CLASSES = ("equivalent", "pace", "wording")
REQUIRED_PERCENT = 98.0
# Imported once: a run of tests is forked from this process. None of them starts threads when it is imported.
PRELOADED = ("torch", "pandas", "pyarrow.parquet", "scipy.stats")
_POLL_SECONDS = 0.02
_BASELINE_SECONDS = 3600.0
_QUICK_SECONDS = 1.0
KNOWN = "tests/mutation/known.toml"


@dataclass
class Tests:
    """What the unchanged package's tests ran, and how long each took.

    Attributes:
        seconds: of each test that passed, by its id.
        runners: of each file and line, the ids of the tests that run it.
        shared: files and lines that are run outside a single test as well: on import, in a fixture, by a process.
        noticed: how many mutants each test was the first to notice.
    """

    seconds: dict[str, float]
    runners: Mapping[tuple[str, int], set[str]]
    shared: set[tuple[str, int]]
    noticed: Counter[str] = field(default_factory=Counter)

    def for_mutant(self, mutant: Mutant) -> list[str]:
        """The ids of the tests that may notice it: those that run its line, then others; the likeliest first."""
        lines = [(str(mutant.module), line) for line in range(mutant.lines[0], mutant.lines[1] + 1)]
        runners = set[str]().union(*(self.runners.get(line, set()) for line in lines))
        files = {each.partition("::")[0] for each in runners}
        is_shared = any(line in self.shared for line in lines)
        chosen = [each for each in self.seconds if is_shared or each.partition("::")[0] in files]
        return sorted(
            chosen,
            key=lambda each: (each not in runners, -self.noticed[each] / self.seconds[each], self.seconds[each]),
        )


@dataclass
class Outcome:
    """Counts of one package."""

    noticed: int = 0
    known: Counter[str] = field(default_factory=Counter)
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """The share noticed of those that can change a number or lose an image, as far as anyone has said."""
        able = self.noticed + len(self.survivors)
        return 100 * self.noticed / able if able else 100.0


class _Durations:
    """A plugin of pytest that writes which tests passed and how long each took."""

    def __init__(self, path: Path) -> None:
        self._path, self._seconds, self._failed = path, defaultdict[str, float](float), set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        passed = (f"{took} {test}" for test, took in self._seconds.items() if test not in self._failed)
        self._path.write_text("\n".join(passed))


def run_tests(copy: Path, arguments: Sequence[str], limit: float, plugins: Sequence[object] = ()) -> int | None:
    """Pytest's exit code in a process of its own, None after the time limit. It prints to a file `log`."""
    child = os.fork()
    if not child:
        _be_pytest(copy, arguments, plugins)
    end = time.monotonic() + limit
    code: int | None = None
    while code is None and time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if finished else None
        time.sleep(0 if finished else _POLL_SECONDS)
    # Whatever the tests have started goes too.
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


def _be_pytest(copy: Path, arguments: Sequence[str], plugins: Sequence[object]) -> None:
    code = 1
    try:
        os.setsid()
        log = os.open(copy.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "COVERAGE_FILE": str(copy / ".coverage")}
        sys.path[0] = str(copy)
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={copy.parent / 'pytest'}"]
        code = int(pytest.main([*options, *arguments], list(plugins)))
    finally:
        sys.stdout.flush()
        os._exit(code)


def copy_of(root: Path, folder: Path) -> Path:
    """What git knows or would add, below a temporary folder."""
    copy = folder / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    # By content: a mutant may be as long as the module, and written in the same second.
    compileall.compile_dir(
        copy / "ensemble_eval", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )
    return copy


def unchanged(copy: Path, package: str) -> Tests:
    """Run a package's tests once as they are, for what they run and how long they take."""
    if not (copy / "tests" / package).is_dir():
        sys.exit(f"there are no tests of {package}: tests/{package}/ is missing")
    durations = copy.parent / "durations"
    durations.unlink(missing_ok=True)
    folders = [f"tests/{each}" for each in (package, *ALSO_TESTED_IN.get(package, ()))]
    asked = ["--cov=ensemble_eval", "--cov-context=test", "--cov-report=", *folders]
    run_tests(copy, asked, _BASELINE_SECONDS, [_Durations(durations)])
    if not durations.is_file() or not durations.read_text():
        sys.exit(f"no test of {package} passes:\n{(copy.parent / 'log').read_text()}")
    lines = (line.partition(" ") for line in durations.read_text().splitlines())
    runners, shared = defaultdict[tuple[str, int], set[str]](set), set[tuple[str, int]]()
    data = coverage.CoverageData(str(copy / ".coverage"))
    data.read()
    for file in data.measured_files():
        for line, contexts in data.contexts_by_lineno(file).items():
            for test, _, phase in (context.rpartition("|") for context in contexts):
                if test:
                    runners[file, line].add(test)
                if phase != "run":
                    shared.add((file, line))
    return Tests({test: float(took) for took, _, test in lines}, runners, shared)


def is_noticed(mutant: Mutant, tests: Tests, copy: Path) -> bool:
    """Whether a test fails or hangs on the mutant. The module is as it was afterwards."""
    chosen = tests.for_mutant(mutant)
    # The quick ones in a run of their own: a mutant that hangs them is noticed after seconds.
    quick = [test for test in chosen if tests.seconds[test] < _QUICK_SECONDS or test in tests.noticed]
    original = mutant.module.read_bytes()
    mutant.module.write_text(mutant.source)
    try:
        return any(
            _fails(group, tests, copy)
            for group in (quick, [each for each in chosen if each not in quick])
            if group
        )
    finally:
        mutant.module.write_bytes(original)


def _fails(chosen: Sequence[str], tests: Tests, copy: Path) -> bool:
    """Whether one of some tests fails or takes too long."""
    slowest = max(tests.seconds[test] for test in chosen)
    limit = 60 + 5 * sum(tests.seconds[test] for test in chosen)
    if run_tests(copy, ["-x", f"--timeout={20 + 10 * slowest:.0f}", *chosen], limit) == 0:
        return False
    lines = (copy.parent / "log").read_text(errors="replace").splitlines()
    failed = (line.removeprefix("FAILED ").partition(" - ")[0] for line in lines if line.startswith("FAILED "))
    tests.noticed.update(test for test in failed if test in tests.seconds)
    return True


def examine(
    package: str, copy: Path, known: Mapping[str, str], count: int, seed: int, only: Sequence[str]
) -> Outcome:
    """Draw a package's mutants and try each, but for those that are known not to be noticed.

    With `only`, those are drawn whose key contains one of its texts.
    """
    outcome, tests = Outcome(), unchanged(copy, package)
    print(f"{package}: {len(tests.seconds)} tests, {sum(tests.seconds.values()):.0f} seconds", flush=True)
    for module in sorted((copy / "ensemble_eval" / package).rglob("*.py")):
        before = outcome.noticed
        asked = [each for each in mutants_of(module) if not only or any(text in each.key for text in only)]
        for mutant in sample(asked, count, seed):
            if mutant.key in known:
                outcome.known[known[mutant.key]] += 1
            elif is_noticed(mutant, tests, copy):
                outcome.noticed += 1
            else:
                outcome.survivors.append(mutant)
                print(f"  survives: line {mutant.line} [{mutant.kind}] {mutant.key}", flush=True)
        if asked:
            print(f"  {module.relative_to(copy)}: {outcome.noticed - before} noticed", flush=True)
    return outcome


def known_mutants(path: Path) -> dict[str, str]:
    """The class of each mutant that is listed, by its key."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutants", []) if path.is_file() else []
    for entry in entries:
        if entry["class"] not in CLASSES or not entry["why"]:
            sys.exit(f"{path}: a mutant needs a class of {', '.join(CLASSES)} and a reason: {entry}")
    return {entry["key"]: entry["class"] for entry in entries}


def outdated(known: Iterable[str], copy: Path, packages: Sequence[str]) -> list[str]:
    """Listed mutants of the modules of some packages that no longer are mutants of any module of that name."""
    names = {module.name for package in packages for module in (copy / "ensemble_eval" / package).rglob("*.py")}
    modules = [module for module in (copy / "ensemble_eval").rglob("*.py") if module.name in names]
    there = {mutant.key for module in modules for mutant in mutants_of(module)}
    return [key for key in known if key not in there and key.partition(",")[0] in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine packages and print what survives; 0 if enough is noticed and the list is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--package", action="append", help="only this package; may be given several times")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="only mutants whose key contains this; repeatable",
    )
    parser.add_argument("--count", type=int, default=10, help="mutants of a module (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--root", type=Path, default=FOLDER.parents[1], help="the clone (default: this one)")
    asked = parser.parse_args(arguments)
    for module in PRELOADED:
        importlib.import_module(module)
    known = known_mutants(asked.root / KNOWN)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copy_of(asked.root, Path(folder).resolve())
        packages = asked.package or [each for each in PACKAGES if (copy / "ensemble_eval" / each).is_dir()]
        stale = outdated(known, copy, packages)
        outcomes = {
            package: examine(package, copy, known, asked.count, asked.seed, asked.only) for package in packages
        }
    return summarise(outcomes, stale)


def summarise(outcomes: Mapping[str, Outcome], stale: Sequence[str]) -> int:
    """Print the counts, and what is listed in vain; 1 if too little is noticed."""
    total = Outcome()
    print(
        f"{'package':<12}{'mutants':>8}{'noticed':>8}{'survive':>8}" + "".join(f"{each:>12}" for each in CLASSES)
    )
    for package, outcome in [*outcomes.items(), ("all", total)]:
        known = "".join(f"{outcome.known[each]:>12}" for each in CLASSES)
        survivors = len(outcome.survivors)
        mutants = outcome.noticed + survivors + outcome.known.total()
        print(f"{package:<12}{mutants:>8}{outcome.noticed:>8}{survivors:>8}{known}")
        if outcome is not total:
            total.noticed += outcome.noticed
            total.survivors += outcome.survivors
            total.known += outcome.known
    print(
        f"noticed: {total.percent:.1f}% of those that are not listed in {KNOWN}; required: {REQUIRED_PERCENT:g}%"
    )
    for key in stale:
        print(f"listed, but no mutant any more: {key}")
    return int(total.percent < REQUIRED_PERCENT or bool(stale))


if __name__ == "__main__":
    sys.exit(main())
