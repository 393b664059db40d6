"""The crops that the members of an ensemble see, and the distinct views of one image among them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property, lru_cache

from ensemble_eval.crops.protocols import Protocol, listed
from ensemble_eval.crops.views import Canvas, Resampling, View
from ensemble_eval.errors import InputError

_CACHED_PLANS = 256


@dataclass(frozen=True)
class ViewGroup:
    """The members that see the same views of an image.

    Attributes:
        members: Indices into the ensemble.
        views: The positions of their views in `CropPlan.views`.
        weights: For each scheme, how often it counts each of these views; a scheme's counts add up to its size.
        view_of_crop: For each crop in the crop order, the position of its view in `CropPlan.views`.
    """

    members: tuple[int, ...]
    views: range
    weights: Mapping[int, tuple[int, ...]]
    view_of_crop: tuple[int, ...]


@dataclass(frozen=True)
class CropPlan:
    """The distinct views of one image.

    Attributes:
        views: The views of one group of members after the other, each in the crop order of their first appearance.
        groups: The groups.
    """

    views: tuple[View, ...]
    groups: tuple[ViewGroup, ...]

    @property
    def canvases(self) -> list[Canvas]:
        """The distinct canvases of the views, the smallest first."""
        return sorted({view.canvas for view in self.views}, key=astuple)

    @property
    def schemes(self) -> tuple[int, ...]:
        """The schemes, ascending."""
        return tuple(self.groups[0].weights)

    @property
    def crops(self) -> int:
        """The largest scheme."""
        return self.schemes[-1]

    @property
    def passes(self) -> int:
        """The number of passes of all views."""
        return sum(len(group.views) * len(group.members) for group in self.groups)

    def group_of(self, view: int) -> ViewGroup:
        """Return the group that sees a view, by the position of the view."""
        return next(group for group in self.groups if view in group.views)


@dataclass(frozen=True)
class CropRule:
    """The crops that each member of an ensemble sees.

    Members of one protocol form a group: they see the same views.

    Args:
        protocols: The protocol of each member. All have the same schemes.
        crops: The largest scheme that is used.
        resampling: The filter of protocols that leave it to the ensemble.

    Raises:
        InputError: The protocols have different schemes, or `crops` is none of them.

    Example:
        >>> from ensemble_eval.crops.protocols import GOOGLENET
        >>> rule = CropRule((GOOGLENET,), 144)
        >>> len(rule.plan(500, 375).views), len(rule.plan(300, 300).views)
        (144, 48)
    """

    protocols: tuple[Protocol, ...]
    crops: int
    resampling: Resampling = "bilinear"

    def __post_init__(self) -> None:
        first = self.protocols[0]
        for other in self.protocols:
            if other.schemes != first.schemes:
                raise InputError(
                    f"the protocol {first.name} has schemes of {listed(first.schemes)} crops and {other.name} of "
                    f"{listed(other.schemes)}; the members of an ensemble need the same schemes"
                )
        first.schemes_up_to(self.crops)

    @cached_property
    def schemes(self) -> tuple[int, ...]:
        """The schemes that are used, by their number of crops, ascending."""
        return self.protocols[0].schemes_up_to(self.crops)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The indices of the members of each protocol."""
        return tuple(
            tuple(index for index, each in enumerate(self.protocols) if each == protocol)
            for protocol in dict.fromkeys(self.protocols)
        )

    @cached_property
    def _resolved(self) -> tuple[Protocol, ...]:
        return tuple(replace(each, resampling=each.resampling or self.resampling) for each in self.protocols)

    @cached_property
    def name(self) -> str:
        """The names of the distinct protocols."""
        return " and ".join(self.protocols[group[0]].name for group in self.groups)

    def up_to(self, crops: int) -> "CropRule":
        """Return the rule of a smaller scheme."""
        return replace(self, crops=crops)

    @cached_property
    def plan(self) -> Callable[[int, int], CropPlan]:
        """Return the distinct views of an image of some width and height in pixels, so that no pass is run twice.

        In the protocol `googlenet`, the three squares of a square image coincide: 48 views, each of weight 3.
        """
        # Many images of a data set have the same size.
        return lru_cache(_CACHED_PLANS)(self._plan)

    def _plan(self, width: int, height: int) -> CropPlan:
        views, groups = list[View](), list[ViewGroup]()
        for members in self.groups:
            every = self._resolved[members[0]].views_of(width, height, self.crops)
            position = {view: number for number, view in enumerate(dict.fromkeys(every))}
            counts = {scheme: Counter(every[:scheme]) for scheme in self.schemes}
            weights = {scheme: tuple(counts[scheme][view] for view in position) for scheme in self.schemes}
            seen = range(len(views), len(views) + len(position))
            groups.append(ViewGroup(members, seen, weights, tuple(seen[position[view]] for view in every)))
            views += position
        return CropPlan(tuple(views), tuple(groups))
