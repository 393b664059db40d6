"""The classes of a development kit from the bytes of its `meta.mat`, as SciPy writes it."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ensemble_eval.errors import InputError
from ensemble_eval.members import classes
from ensemble_eval.members.classes import wnids_by_ilsvrc_id

KIT = Path("kit")


def _meta(*rows: tuple[int, str, int], **more: object) -> bytes:
    """ILSVRC2012_ID, WNID and the number of children of each synset, behind other variables."""
    synsets = np.array(list(rows), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")])
    buffer = io.BytesIO()
    variables: Mapping[str, object] = {**more, "synsets": synsets[:, None]}
    savemat(buffer, dict(variables), do_compression=True)  # type: ignore[arg-type]  # its stub knows paths only
    return buffer.getvalue()


ANT, BEE, INSECT = (2, "n00000002", 0), (1, "n00000001", 0), (3, "n00000003", 2)


def test_classes_are_the_synsets_without_children() -> None:
    found = wnids_by_ilsvrc_id(KIT, _meta(ANT, BEE, INSECT, counts=np.arange(5)))
    assert found == {1: "n00000001", 2: "n00000002"}


@pytest.mark.parametrize("rows", [(ANT, INSECT, INSECT), (ANT, (1, "n00000002", 0)), ((0, "n00000001", 0), BEE)])
def test_ids_that_are_not_1_2_3_or_name_a_class_twice_are_refused(rows: tuple[tuple[int, str, int], ...]) -> None:
    with pytest.raises(InputError, match=r"kit: the ids in meta.mat are not 1, 2, 3 and so on"):
        wnids_by_ilsvrc_id(KIT, _meta(*rows))


def test_another_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"kit: meta.mat is damaged, or of another kit"):
        wnids_by_ilsvrc_id(KIT, b"x" * 200)


def test_variables_that_unpack_to_more_than_a_kit_holds_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "MAX_META_BYTES", 20_000)
    meta = _meta(ANT, BEE, zeros=np.zeros(2000))
    assert len(wnids_by_ilsvrc_id(KIT, meta)) == 2
    # The second of three variables, behind one that hardly shrinks.
    noise = np.random.default_rng(0).integers(0, 256, 2000, np.uint8)
    bomb = _meta(ANT, BEE, noise=noise, zeros=np.zeros(100_000))
    assert len(bomb) < 20_000
    with pytest.raises(InputError, match=r"kit has more than 20000 bytes; is it the right file\?"):
        wnids_by_ilsvrc_id(KIT, bomb)
    with pytest.raises(InputError, match=r"kit has more than 20000 bytes"):
        wnids_by_ilsvrc_id(KIT, meta.ljust(20_001, b"\0"))
