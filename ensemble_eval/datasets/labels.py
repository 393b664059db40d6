"""Labels from one source and images from another, brought together."""

import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ensemble_eval.datasets.items import Dataset, relabelled
from ensemble_eval.datasets.selection import leaving_out
from ensemble_eval.errors import InputError, first_names

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Labels:
    """What a source of labels says.

    Attributes:
        source: of the labels, for messages.
        kind: what it was recognised as, as a phrase.
        key_of: from an image's id to what the source calls the image; None where that cannot be told.
        by_key: class indices by what the source calls the image: one, several, or none at all.
        only_for_some: whether the source may know more images than there are.
    """

    source: str
    kind: str
    key_of: Callable[[str], str | None]
    by_key: Mapping[str, tuple[int, ...]]
    only_for_some: bool = False

    @property
    def several(self) -> bool:
        """Whether an image may have any number of labels but one."""
        return any(len(labels) != 1 for labels in self.by_key.values())


def stem(image: str) -> str:
    """The name of an image without folders and suffix.

    Example:
        >>> stem("val/ILSVRC2012_val_00000001.JPEG")
        'ILSVRC2012_val_00000001'
    """
    return posixpath.splitext(posixpath.basename(image))[0]


def labelled(dataset: Dataset, labels: Labels) -> Dataset:
    """The same images with the labels of another source.

    Images for which the source lists no class are left out, and counted in the data set's scope.

    Raises:
        InputError: images that the source does not know or cannot tell, images that it knows and that are not
            there, or two images that it calls the same.
    """
    keys = {item.id: labels.key_of(item.id) for item in dataset.items}
    _refuse_untold(labels, [image for image, key in keys.items() if key is None])
    told = {image: key for image, key in keys.items() if key is not None}
    _refuse_shared(labels, told)
    there = set(told.values())
    refuse_mismatch(
        {
            f"images have no label in {labels.source}": [
                image for image, key in told.items() if key not in labels.by_key
            ],
            f"images are not there but stand in {labels.source}": []
            if labels.only_for_some
            else [key for key in labels.by_key if key not in there],
        }
    )
    found = {image: labels.by_key[key] for image, key in told.items()}
    rest = leaving_out(dataset, "have no label", lambda item: bool(found[item.id]))
    if not rest.items:
        raise InputError(f"{labels.source} lists no class for any of the images; is it the right file?")
    several = {image: classes for image, classes in found.items() if classes} if labels.several else {}
    return replace(
        rest,
        items=tuple(relabelled(item, found[item.id][0]) for item in rest.items),
        layout=f"{dataset.layout}, with {labels.kind} ({labels.source})",
        scope=replace(rest.scope, several_labels=labels.several),
        several_labels=several,
    )


def refuse_mismatch(found: Mapping[str, Sequence[str]]) -> None:
    """Refuse with all that is found, each kind with the first few of its files.

    Raises:
        InputError: anything is found.
    """
    phrases = [
        f"{len(names)} {what} ({first_names(sorted(names), _NAMED_AT_MOST)})"
        for what, names in found.items()
        if names
    ]
    if phrases:
        raise InputError(f"{', and '.join(phrases)}; make the labels and the folder match")


def _refuse_untold(labels: Labels, images: Sequence[str]) -> None:
    if images:
        raise InputError(
            f"{labels.source} goes by the numbers in names such as ILSVRC2012_val_00000001.JPEG, and "
            f"{len(images)} images have none ({first_names(images)}); give labels of the form file,label"
        )


def _refuse_shared(labels: Labels, keys: Mapping[str, str]) -> None:
    for key, count in Counter(keys.values()).items():
        if count > 1:
            images = [image for image, other in keys.items() if other == key]
            raise InputError(
                f"{labels.source} cannot tell {first_names(images)} apart; give each image its own name"
            )
