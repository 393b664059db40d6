"""`--until-decided` against full scores: the share of the passes, the time, and that the table is the same.

    python -m benchmarks.early_exit DIR --labels CSV --ensemble MANIFEST --precision float32

Everything given is passed on to `ensemble-eval run`, whose installed code is trusted. In every round both run
once, in a random order; times are the `seconds` of run.json, without loading and converting.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.machine import machine_facts
from benchmarks.results import spread
from benchmarks.work import CROPS


@dataclass(frozen=True)
class Outcome:
    """What a run took, and the top-5 columns of its table."""

    passes: int
    seconds: float
    table: pd.DataFrame


def evaluate(options: Sequence[str]) -> Outcome:
    """Run the command in a fresh folder and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results"
        command = [sys.executable, "-m", "ensemble_eval", "run", *options, "--crops", str(CROPS)]
        command += ["--device", "cpu", "--trust-python", "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        record = json.loads((out / "run.json").read_text())
        table = pd.read_csv(out / "table3.csv")
    top_5 = [column for column in table.columns if column.startswith(("models", "crops", "top5"))]
    return Outcome(record["passes"], record["seconds"], table[top_5])


def measure(options: Sequence[str], number: int, seed: int) -> tuple[Outcome, Outcome]:
    """One round: in full, and until decided."""
    kinds: dict[str, list[str]] = {"in full": [], "until decided": ["--until-decided"]}
    order = list(kinds)
    random.Random(f"{seed}-{number}").shuffle(order)
    outcomes = {}
    for kind in order:
        outcomes[kind] = one = evaluate([*options, *kinds[kind]])
        print(f"round {number}  {kind}: {one.passes} passes, {one.seconds:.1f} s", file=sys.stderr, flush=True)
    return outcomes["in full"], outcomes["until decided"]


def report(rounds: Sequence[tuple[Outcome, Outcome]]) -> str:
    """The share of the passes, the speed-up round by round, and the rows whose top-5 cells differ."""
    shares = spread([100 * decided.passes / full.passes for full, decided in rounds])
    ratios = spread([full.seconds / decided.seconds for full, decided in rounds])
    differing = sum(int((full.table != decided.table).any(axis=1).sum()) for full, decided in rounds)
    rows = sum(len(full.table) for full, _ in rounds)
    full, decided = rounds[0]
    return "\n".join(
        [
            f"passes: {decided.passes} of {full.passes}, {shares.text(1, '%')}",
            f"until decided over in full: {ratios.text(2, '×')}, n = {len(rounds)}",
            f"rows of the table with another top-5 cell: {differing} of {rows}",
        ]
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the order [%(default)s]")
    arguments, options = parser.parse_known_args()
    facts = machine_facts()
    rounds = [measure(options, number, arguments.seed) for number in range(1, arguments.rounds + 1)]
    print("\n".join(f"{name}: {facts[name]}" for name in ("machine", "CPU flags", "versions")))
    print(report(rounds))


if __name__ == "__main__":
    main()
