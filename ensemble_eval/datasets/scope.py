"""What the errors of a data set are counted over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What errors are counted over, where that is not every image, by one label, among all classes.

    Attributes:
        whole: how many images the data set has, those that are left out included; 0 where none is.
        left_out: how many of them take no part, by a phrase that says why.
        part: which part of the others is taken, as a phrase; empty for all of them.
        counted_classes: the class indices among which a label is ranked, ascending; None for all classes.
        several_labels: whether an image may have several labels, of which the best-ranked one counts.
        labelled: whether there are labels at all.

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
        """What differs from the usual; empty for every image, by one label, among all classes."""
        usual = vars(Scope())
        return {name: value for name, value in vars(self).items() if value != usual[name]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            TypeError: this is no scope.
        """
        counted = found.get("counted_classes")
        return cls(**{**found, "counted_classes": None if counted is None else tuple(counted)})

    def sentences(self) -> Iterator[str]:
        """What a reader of the table has to know, in one phrase each; nothing for the usual."""
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
