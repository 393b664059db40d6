"""Images that stand in several parts, kept once: two runs worked in one folder, or merged folders overlap."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble_eval.files import write_atomically
from ensemble_eval.results.key import RunKey
from ensemble_eval.results.parts import Part, part_name


def keep_once(folder: Path, parts: Mapping[str, Part], key: RunKey) -> None:
    """Rewrite parts so that each image stands in one only: the one that was written first.

    Others may do the same at the same time, each with what it has seen of the folder. When a part was written
    does not change as it is rewritten, so all of them keep the same, and a copy goes only where an earlier one
    was seen: none is lost.

    Args:
        folder: of the parts.
        parts: by name, all that were seen.
        key: of their run.
    """
    keepers = keepers_of(parts)
    old, new = set[str](), set[str]()
    for name, part in parts.items():
        kept = [image for image in part.images if keepers[image] == name]
        if len(kept) < len(part.images):
            # Somebody else has just rewritten it.
            with contextlib.suppress(FileNotFoundError):
                new.add(_write(folder / name, part, kept, key))
                old.add(name)
    # The old ones go when all new ones are there. In between images repeat, and none is lost; what is new may
    # be, to the byte, a part that was there before.
    for name in old - new:
        (folder / name).unlink(missing_ok=True)


def keepers_of(parts: Mapping[str, Part]) -> dict[str, str]:
    """The name of the part that keeps each image, by image."""
    keepers: dict[str, str] = {}
    for name, part in sorted(parts.items(), key=lambda item: (item[1].written, item[1].seconds, item[0])):
        for image in part.images:
            keepers.setdefault(image, name)
    return keepers


def _write(path: Path, part: Part, kept: Sequence[str], key: RunKey) -> str:
    """Write what is kept of a part beside it, and return its name."""
    # Only where an image stands twice, which is rare: this takes a quarter of a second to import.
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from ensemble_eval.results.encoding import encode_table

    rows = pq.read_table(path, partitioning=None)
    rows = rows.filter(pc.is_in(rows["image"], pa.array(kept, pa.string())))
    data = encode_table(rows, replace(part, images=list(kept)), key)
    name = part_name(data)
    write_atomically(path.with_name(name), data)
    return name
