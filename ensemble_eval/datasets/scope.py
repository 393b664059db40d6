"""The scope of a data set: the images, labels and classes that errors cover."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which images, labels and classes the errors cover; by default all, with one label for each image.

    Attributes:
        whole: The number of images of the data set, including those that are left out; 0 if none is left out.
        left_out: The number of images that are left out, by a phrase that says why.
        part: A phrase that says which of the other images are evaluated, such as "the first 8 of 12 images"; empty
            if all are.
        counted_classes: The class indices among which a label is ranked, ascending; None for all classes.
        several_labels: Whether an image may have several labels, of which the best-ranked one counts.
        labelled: Whether the images have labels.

    Example:
        >>> print(*Scope(whole=50_000, left_out={"are on the blacklist": 1762}).sentences(), sep="; ")
        48238 of 50000 images: 1762 are on the blacklist
    """

    whole: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    part: str = ""
    counted_classes: tuple[int, ...] | None = None
    several_labels: bool = False
    labelled: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults."""
        usual = vars(Scope())
        return {name: value for name, value in vars(self).items() if value != usual[name]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the scope that `to_json` wrote.

        Raises:
            TypeError: The fields are not those of a scope.
        """
        counted = found.get("counted_classes")
        return cls(**{**found, "counted_classes": None if counted is None else tuple(counted)})

    def sentences(self) -> Iterator[str]:
        """Yield one phrase for each field that differs from the default, for readers of the table."""
        if self.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            yield f"{self.whole - sum(self.left_out.values())} of {self.whole} images: {reasons}"
        if self.part:
            yield self.part
        if self.several_labels:
            yield "an image counts as right if any of its labels is among the k best classes"
        if self.counted_classes is not None:
            yield f"labels are ranked among the data set's {len(self.counted_classes)} classes only"
        if not self.labelled:
            yield "the images have no labels, so there are no errors"
