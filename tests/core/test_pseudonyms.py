"""Names of forgotten images: the same for the same id and key, and telling nothing of the id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pseudonyms import KEY_BYTES, NOBODY, Pseudonyms, is_pseudonym
from core.types import ImageId

IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).map(ImageId)
KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(KEYS, IDS)
def test_a_pseudonym_is_stable_and_its_own(key: bytes, image_id: ImageId) -> None:
    names = Pseudonyms(key)
    name = names.of(image_id)
    assert name == Pseudonyms(key).of(image_id) == names.of(name)
    assert is_pseudonym(name)
    assert name not in (NOBODY, image_id)


@given(IDS, IDS)
def test_ids_and_keys_give_different_names(one: ImageId, other: ImageId) -> None:
    names, others = Pseudonyms.fresh(), Pseudonyms.fresh()
    assert (names.of(one) == names.of(other)) == (one == other)
    assert names.of(one) != others.of(one)


@pytest.mark.parametrize("text", ["forgotten:", "forgotten:" + "0" * 31, "0" * 32, "forgotten", "x" + NOBODY])
def test_other_ids_are_no_pseudonyms(text: str) -> None:
    assert not is_pseudonym(ImageId(text))


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33])
def test_a_key_has_its_length(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(key)
