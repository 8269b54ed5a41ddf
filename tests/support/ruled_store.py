"""The reference store with overrides: pins and forbids, which look-ups tell of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from core.types import ImageId, ImageRules, Lookup
from tests.support.reference_store import ReferenceStore


def rules_of(pins: Mapping[ImageId, ImageId], forbids: Iterable[tuple[ImageId, ImageId]]) -> dict[ImageId, ImageRules]:
    """The rules of each image that a pin (image to target) or a forbid names."""
    rules: dict[ImageId, ImageRules] = {}

    def of(image_id: ImageId) -> ImageRules:
        return rules.get(image_id, ImageRules())

    for image_id, target in sorted(pins.items()):
        rules[image_id] = of(image_id)._replace(pinned_to=target)
        rules[target] = of(target)._replace(followers=(*of(target).followers, image_id))
    for one, other in sorted(forbids):
        for image_id, enemy in ((one, other), (other, one)):
            rules[image_id] = of(image_id)._replace(forbidden=(*of(image_id).forbidden, enemy))
    return rules


class RuledStore(ReferenceStore):
    """A reference store that overrides came to."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: Mapping[ImageId, ImageRules] = {}

    def say(self, pins: Mapping[ImageId, ImageId], forbids: Iterable[tuple[ImageId, ImageId]]) -> None:
        """Sets all overrides. They move nothing by themselves."""
        self.rules = rules_of(pins, forbids)
        self.revision += 1

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """With the rules of these images, and the heads of the images that the rules forbid or pin to."""
        rules = {image_id: self.rules[image_id] for image_id in ids if image_id in self.rules}
        named = {each for one in rules.values() for each in (*one.forbidden, one.pinned_to)}
        heads = {each: self.heads[each] for each in named if each is not None and each in self.heads}
        return replace(super().look_up(ids, verdicts_of), rules=rules, rule_heads=heads)
