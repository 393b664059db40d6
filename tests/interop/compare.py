"""Prints how far this package is from what other frameworks computed with their own files, and ends with 1
beyond 1e-4.

    python tests/interop/compare.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch

from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import GRAPH
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import Preprocessing

TOLERANCE = 1e-4


def main(folder: Path) -> int:
    """The exit code."""
    worst = 0.0
    for path in sorted(folder.iterdir()):
        stored = path.with_name(f"{path.name.partition('.')[0]}.npz")
        if path.suffix in (".npz", ".data-00000-of-00001") or path.name in ("onnx.onnx", "classifier.tflite"):
            continue
        member = Member(path.name, weights=path)
        if member.arch == GRAPH:
            continue
        theirs = np.load(stored)
        crop_batch = torch.from_numpy(theirs["blocks"].repeat(8, axis=2).repeat(8, axis=3))
        network = load_member(member, theirs["probabilities"].shape[1])
        with torch.inference_mode():
            ours = torch.softmax(network(Preprocessing(member.input)(crop_batch)), dim=1).numpy()
        distance = float(np.abs(ours - theirs["probabilities"]).max())
        apart = float(np.abs(np.subtract(*theirs["probabilities"])).max())
        print(f"{path.name:24} {member.arch:22} off by {distance:.1e}; the two pictures differ by {apart:.2f}")
        worst = max(worst, distance)
    return int(worst > TOLERANCE)


sys.exit(main(Path(sys.argv[1])))
