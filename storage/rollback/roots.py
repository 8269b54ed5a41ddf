"""Which head each image ends up with, once some images want another one. Pure.

An image wants the image that an override pins it to, else the head that a rollback or a merge gives it, else the head
that it has. What it wants may itself go elsewhere, so the way is followed to its end, the *root*. Whatever the wishes
are, each root is its own head, so the two relations agree. Pins win over wishes, and forbids over both: of two images
that must not meet, the younger stays where it is, or founds its own cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from core.types import ImageId
from storage.interfaces import StoreView
from storage.overrides.rules import Rules
from storage.records import ImageRecord

__all__ = ["Roots"]


class Roots:
    """The root of each image of a store, for the wishes of some."""

    def __init__(self, view: StoreView, rules: Rules, wishes: MutableMapping[ImageId, ImageId]) -> None:
        """Takes the wishes, to which it adds those of images that must not meet others.

        Args:
            view: The store.
            rules: Of the overrides that stand.
            wishes: The head that an image wants.
        """
        self._view = view
        self._rules = rules
        self.wishes = wishes
        self._known: dict[ImageId, ImageId] = {}
        """The roots of images that others want."""
        self._names: Mapping[ImageId, ImageId] = {}

    def rename(self, names: Mapping[ImageId, ImageId]) -> None:
        """Heads of which nothing is left go by these names."""
        self._names = names
        self._known.clear()

    def follow(self, view: StoreView) -> None:
        """Goes on with a later moment of the store."""
        self._view = view
        self._known.clear()

    def of(self, image_id: ImageId) -> ImageId:
        """The head that an image ends up with; it is itself if it is unknown."""
        wanted = self.wanted(image_id)
        return wanted if wanted == image_id else self._root(image_id, wanted)

    def wanted(self, image_id: ImageId) -> ImageId:
        """The next image on the way to the root."""
        pinned_to, wish = self._rules.of(image_id).pinned_to, self.wishes.get(image_id)
        if pinned_to is not None and self._obeys(image_id, pinned_to, wishes=wish is not None):
            return pinned_to
        if wish is not None:
            return self._names.get(wish, wish)
        image = self._view.image(image_id)
        return self._names.get(image_id, image_id) if image is None else image.head

    def _obeys(self, image_id: ImageId, pinned_to: ImageId, *, wishes: bool) -> bool:
        """Whether a pin counts: of an image that has a wish, or is with its target and does not lead it.

        If the image was deleted, it counts unless others are still in its cluster.
        """
        image, target = self._view.image(image_id), self._view.image(pinned_to)
        if target is None or wishes:
            return target is not None
        if image is None:
            return self._view.cluster(image_id) is None
        return image.head == target.head and image.head != image_id

    def part(self) -> tuple[ImageId, ImageId] | None:
        """Changes wishes until no two images meet that must not.

        Returns:
            The first two that would have met; None: none do.
        """
        first: tuple[ImageId, ImageId] | None = None
        tried: set[ImageId] = set()
        met = True
        while met:
            met = False
            for pair, leaver, root in self._meetings():
                met, first = True, first or pair
                image = self._view.image(leaver)
                assert image is not None  # it is one of two that meet
                stays = leaver not in tried and self.of(image.head) not in (root, leaver)
                self.wishes[leaver] = image.head if stays else leaver
                tried.add(leaver)
                self._known.clear()
        return first

    def _meetings(self) -> Iterator[tuple[tuple[ImageId, ImageId], ImageId, ImageId]]:
        """Two images that must not meet, the one that leaves for it, and the root that it must not have."""
        for one, other in self._rules.forbidden_pairs():
            root = self.of(one)
            if root == self.of(other) and self._is_there(one, root) and self._is_there(other, root):
                yield (one, other), self._leaver(one, other, root), root

    def _is_there(self, image_id: ImageId, root: ImageId) -> bool:
        """Whether it is an image, or the deleted head that names the cluster."""
        return image_id == root or self._view.image(image_id) is not None

    def _leaver(self, one: ImageId, other: ImageId, root: ImageId) -> ImageId:
        """The image that all the others follow which must leave, of two that must not meet."""
        tops = [self._top(one), self._top(other)]
        named = self._top(root)
        free = [(image.place, top) for top in tops if top != named and (image := self._view.image(top)) is not None]
        return max(free)[1]

    def _top(self, image_id: ImageId) -> ImageId:
        """The image at the end of its pins."""
        while (target := self._rules.of(image_id).pinned_to) is not None and self._view.image(target) is not None:
            image_id = target
        return image_id

    def _root(self, image_id: ImageId, wanted: ImageId) -> ImageId:
        way: dict[ImageId, None] = {image_id: None}
        while wanted not in way:
            known = self._known.get(wanted)
            if known is not None:
                root = known
                break
            way[wanted] = None
            wanted = self.wanted(wanted)
        else:
            root = self._chosen(way, wanted)
        for each in list(way)[1:]:
            self._known[each] = root
        return root

    def _chosen(self, way: Mapping[ImageId, None], first: ImageId) -> ImageId:
        """The root of a way that ends in a circle from an image on: a head, and of several the oldest image."""
        ids = list(way)
        circle = ids[ids.index(first) :]
        if len(circle) == 1:
            return first
        images = [image for each in circle if (image := self._view.image(each)) is not None]
        return min(images, key=_by_rank).image_id


def _by_rank(image: ImageRecord) -> tuple[bool, int]:
    return image.head != image.image_id, image.place
