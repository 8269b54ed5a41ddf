"""Local features on the small photographs that the project carries."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError
from training.labelling import matching
from training.labelling.matching import describe_picture, read_grey, read_picture, verify
from training.labelling.verification import NO_MATCH

DEMO = Path(__file__).parents[3] / "examples" / "photos" / "demo"
ONE, OTHER = DEMO / "clothing-0152ec2ee8.jpg", DEMO / "clothing-18e573be5a.jpg"


def test_a_crop_is_explained_and_another_photograph_is_not() -> None:
    photograph = read_picture(ONE)
    crop = verify(photograph, read_picture(DEMO / "clothing-0152ec2ee8-1-crop.jpg"))
    other = verify(photograph, read_picture(OTHER))
    assert crop.inliers > 5 * max(1, other.inliers)
    assert crop.correlation > 0.9
    assert crop.overlap_larger > 0.9 > crop.overlap_smaller
    assert crop.mirrored == 0


def test_a_mirrored_picture_is_matched_mirrored() -> None:
    photograph = read_picture(ONE)
    mirrored = verify(photograph, describe_picture(np.ascontiguousarray(photograph.grey[:, ::-1])))
    assert mirrored.mirrored == 1
    assert mirrored.correlation > 0.99
    assert mirrored.inlier_ratio > 0.9


def test_a_quarter_turn_is_read_off() -> None:
    photograph = read_picture(ONE)
    turned = verify(photograph, describe_picture(np.ascontiguousarray(np.rot90(photograph.grey))))
    assert turned.rotation == pytest.approx(90, abs=2)


def test_the_same_pair_gives_the_same_features() -> None:
    first = [verify(read_picture(ONE), read_picture(OTHER)) for _ in range(2)]
    assert first[0] == first[1]


def test_pictures_without_features_match_nothing() -> None:
    flat = describe_picture(np.full((80, 80), 127, dtype=np.uint8))
    assert verify(flat, flat) == NO_MATCH
    assert verify(flat, read_picture(ONE)) == NO_MATCH


def test_large_pictures_are_brought_down(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((300, 1500), dtype=np.uint8))
    assert read_grey(path).shape == (102, matching.WORKING_SIDE)


@pytest.mark.parametrize("content", [b"", b"no picture", ONE.read_bytes()[:100]], ids=["empty", "text", "cut off"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"bad\.jpg"):
        read_grey(path)


def test_limits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        read_grey(tmp_path / "gone.jpg")
    monkeypatch.setattr(matching, "MAX_PIXELS", 100)
    with pytest.raises(BadInputError, match="more pixels than the 100 that are read"):
        read_grey(ONE)
    monkeypatch.setattr(matching, "MAX_FILE_BYTES", 100)
    with pytest.raises(BadInputError, match="bytes, at most 100 are read"):
        read_grey(ONE)


READ = """
import resource, sys
from pathlib import Path
from core.errors import BadInputError
from training.labelling.matching import read_grey
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_grey(Path(sys.argv[1]))
except BadInputError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_small_file_of_a_huge_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    """900 million pixels in 875 kB; decoded they take 900 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side, packer = 30_000, zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    message, grown_mb = done.stdout.splitlines()
    assert message == f"the picture {path} has more pixels than the 100000000 that are read"
    assert int(grown_mb) < 200
