"""How many decisions two runs over the same images do not share: `python -m benchmarks.agreement OUT OTHER`.

Made for the choice of the default precision: each folder is the `--out` of a run, one in float32, one not.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

ROW = ["image", "member", "crops"]


def read(out: Path) -> pd.DataFrame:
    """One row per image, member and scheme: whether the label is among the five best, and is the best.

    Where the run stored them, also its `rank` and the `scores`.
    """
    frame: pd.DataFrame = pd.read_parquet(out / "predictions")
    if "rank" in frame:
        frame["top5_correct"], frame["top1_correct"] = frame["rank"] < 5, frame["rank"] < 1
    return frame[[*ROW, "top5_correct", "top1_correct", *(name for name in ("rank", "scores") if name in frame)]]


def disagreement(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """By member and scheme: decisions, how many of them differ, and how many labels have another rank.

    Where both stored scores, also the largest difference between two of them.

    Raises:
        ValueError: the runs are not about the same images, members and schemes.
    """
    both = one.merge(other, on=ROW, how="outer", suffixes=("", "_other"), validate="one_to_one", indicator=True)
    if not (both["_merge"] == "both").all():
        raise ValueError("the runs are not about the same images, members and schemes")
    both["decisions"] = 1
    for k in (5, 1):
        both[f"top-{k} changed"] = both[f"top{k}_correct"] != both[f"top{k}_correct_other"]
    groups = both.groupby(["member", "crops"])
    table = groups[["decisions", "top-5 changed", "top-1 changed"]].sum()
    if "rank_other" in both:
        both["rank changed"] = both["rank"] != both["rank_other"]
        table["rank changed"] = groups["rank changed"].sum()
    if "scores_other" in both:
        pairs = zip(both["scores"], both["scores_other"], strict=True)
        both["scores differ by"] = [np.abs(np.subtract(*pair)).max() for pair in pairs]
        table["scores differ by"] = groups["scores differ by"].max()
    return table


def main() -> None:
    """Print the table and its sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("other", type=Path)
    arguments = parser.parse_args()
    table = disagreement(read(arguments.out), read(arguments.other))
    print(table.to_string())
    total = table.filter(regex="decisions|changed").sum()
    for k in (5, 1):
        share = 1000 * total[f"top-{k} changed"] / total["decisions"]
        print(f"top-{k}: {total[f'top-{k} changed']} of {total['decisions']} decisions, {share:.2f} in a thousand")


if __name__ == "__main__":
    main()
