"""What a run decided about every image, as arrays: wrong or right, the answer, and how sure it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import EnsembleEvalError, UnavailableError
from ensemble_eval.results.blocks import Block, blocks, row_names
from ensemble_eval.results.reading import StoredRun

TOP_5, TOP_1 = 5, 1


@dataclass(frozen=True)
class Configuration:
    """A row of Table 3: some models with some crops.

    Attributes:
        models: how many.
        crops: the scheme.
        name: the member that stands for one model, or "ensemble".
    """

    models: int
    crops: int
    name: str

    def __str__(self) -> str:
        """Models × crops, as the paper names a row."""
        return f"{self.models}×{self.crops}"


@dataclass(frozen=True, eq=False)
class Decisions:
    """Which images each member and the ensemble have wrong, with each scheme.

    Attributes:
        images: ids, sorted.
        labels: int32 [images].
        members: names, in the ensemble's order.
        names: the members, and with several of them "ensemble".
        crops: the schemes, ascending.
        wrong: by k, bool [names, schemes, images], whether the label is not among the k best classes; k is 5 or 1.
        is_known: by k, bool [names, schemes], whether that is known for every image; where it is not, what
            `wrong` has means nothing.
        answered: int32 [names, schemes, images], the best class; None where it was not stored or not read.
        confidence: float32 [names, schemes, images], that class's mean softmax; None as above.
        ranks: int32 [names, schemes, images], the label's; None of a run that stops when decided.
        several_labels: every label of each image, of which any is right; None where images have one each.
    """

    images: tuple[str, ...]
    labels: NDArray[np.int32]
    members: tuple[str, ...]
    names: tuple[str, ...]
    crops: tuple[int, ...]
    wrong: Mapping[int, NDArray[np.bool_]]
    is_known: Mapping[int, NDArray[np.bool_]]
    answered: NDArray[np.int32] | None
    confidence: NDArray[np.float32] | None
    ranks: NDArray[np.int32] | None = None
    several_labels: tuple[Sequence[int], ...] | None = None

    @property
    def each_label(self) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """Every label of every image: the image's position in `images`, and the class."""
        if self.several_labels is None:
            return np.arange(len(self.images)), self.labels
        counts = [len(labels) for labels in self.several_labels]
        return np.repeat(np.arange(len(counts)), counts), np.concatenate(self.several_labels).astype(np.int32)

    @property
    def one_model_member(self) -> str:
        """The member with the lowest one-crop top-1 error, ties to the first: the paper's rule for one model."""
        if not self.is_known[TOP_1][: len(self.members), 0].all():
            raise EnsembleEvalError("some one-crop top-1 decisions are missing; the predictions are incomplete")
        wrong = self.wrong[TOP_1][: len(self.members), 0].sum(axis=1)
        return self.members[int(wrong.argmin())]

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """The rows of Table 3: one model and all models, each with every scheme."""
        models = {1: self.one_model_member, len(self.members): self.names[-1]}
        return tuple(Configuration(count, crops, name) for count, name in models.items() for crops in self.crops)

    def require_known(self, k: int) -> None:
        """Refuse a run that stopped before it knew all its rows' top-k decisions.

        Raises:
            UnavailableError: it says which option decides them.
        """
        if not self.is_known[k].all():
            raise UnavailableError(
                f"this run stopped when it was decided, and does not know every top-{k} decision; evaluate with "
                "`top1=True`, or without `until_decided=True`"
            )

    def wrong_by_configuration(self, k: int) -> NDArray[np.bool_]:
        """Whether each row of Table 3 has an image wrong: bool [configurations, images].

        Raises:
            UnavailableError: see `require_known`.
        """
        self.require_known(k)
        return np.stack([self.wrong[k][self.place(each)] for each in self.configurations])

    def place(self, configuration: Configuration) -> tuple[int, int]:
        """Where among names and schemes a configuration is."""
        return self.names.index(configuration.name), self.crops.index(configuration.crops)


def read_decisions(results: StoredRun, *, with_answers: bool = True) -> Decisions:
    """The decisions of a run, finished or not, about the images that it has done.

    Args:
        results: of the run.
        with_answers: whether to read best classes and their scores, where they are stored.

    Raises:
        EnsembleEvalError: rows are missing, or the run has rewritten a part since the folder was read.

    Example:
        `read_decisions(read_results("results")).wrong_by_configuration(5).mean(axis=1)`
    """
    names, decided = row_names(results), bool(results.key.until_decided)
    shape = (len(names), len(results.crops), len(results.images))
    labels = np.empty(len(results.images), np.int32)
    wrong = {k: np.empty(shape, bool) for k in (TOP_5, TOP_1)}
    known = {k: np.ones(shape[:2], bool) for k in wrong}
    answered, confidence, ranks = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.int32)
    with_answers = with_answers and not decided
    columns = ["top5_correct", "top1_correct"] if decided else ["rank"]
    columns += ["top5", "top5_probability"] if with_answers else []
    several = [list[int]()] * len(results.images) if results.key.scope.several_labels else None
    columns += ["labels"] if several is not None else []
    for block in blocks(results, ["label", *columns]):
        labels[block.images] = block.column("label")[0, 0]
        if several is not None:
            of_block = block.table["labels"].take(block.rows[0, 0]).to_pylist()
            for image, each in zip(block.images, of_block, strict=True):
                several[image] = each
        for k in wrong if decided else ():
            wrong[k][..., block.images], known_of_block = _decided_wrong(block, k)
            known[k] &= known_of_block
        if not decided:
            ranks[..., block.images] = block.column("rank")
        if with_answers:
            answered[..., block.images] = block.matrix("top5")[:, 0][block.rows]
            confidence[..., block.images] = block.matrix("top5_probability")[:, 0][block.rows]
    if not decided:
        wrong = {k: ranks >= k for k in wrong}
    return Decisions(
        results.images,
        labels,
        results.members,
        names,
        results.crops,
        wrong,
        known,
        answered=answered if with_answers else None,
        confidence=confidence if with_answers else None,
        ranks=None if decided else ranks,
        several_labels=None if several is None else tuple(several),
    )


def _decided_wrong(block: Block, k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each row has each image wrong, and whether each row knows it of all these images."""
    correct = block.table[f"top{k}_correct"]
    known = correct.is_valid().to_numpy()[block.rows]
    return ~correct.fill_null(False).to_numpy()[block.rows], known.all(axis=2)
