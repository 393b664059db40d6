"""What two runs must have in common."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd


def outcome_bytes(out: Path) -> tuple[bytes, str]:
    """`table3.csv`, and a hash of all predictions, sorted."""
    frame = pd.read_parquet(out / "predictions").sort_values(["image", "member", "crops"])
    assert not frame.duplicated(["image", "member", "crops"]).any()
    digest = hashlib.sha256()
    for name in frame.columns:
        for value in frame[name]:
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return (out / "table3.csv").read_bytes(), digest.hexdigest()
