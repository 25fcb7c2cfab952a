"""COCO-Stuff style folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adhere.eval.errors import EvaluationError
from adhere.eval.suites import suites
from adhere.eval.suites.items import Item
from adhere.layout.layout import Layout


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two photographs: a small dining table and a table on grass; sky; one unlabelled corner."""
    (tmp_path / "labels.txt").write_text(
        "0: unlabeled\n1: person\n2: dining table\n3: table\n4: grass\n5: sky-other\n"
    )
    captions = {
        "images": [
            {"id": 7, "file_name": "000000000007.jpg"},
            {"id": 8, "file_name": "000000000008.jpg"},
        ],
        "annotations": [
            {"image_id": 7, "id": 2, "caption": "Second caption."},
            {"image_id": 7, "id": 1, "caption": "A person at a dining table. "},
            {"image_id": 8, "id": 3, "caption": "Just grass"},
        ],
    }
    (tmp_path / "captions_val2017.json").write_text(json.dumps(captions))
    one = np.full((20, 40), 255, dtype=np.uint8)
    one[:10, :20] = 0
    one[:10, 20:] = 1
    one[10:, :38] = 2
    one[10:12, 38:] = 4
    two = np.full((10, 10), 3, dtype=np.uint8)
    two[:4] = 4
    (tmp_path / "maps").mkdir()
    Image.fromarray(one).save(tmp_path / "maps" / "000000000007.png")
    Image.fromarray(two).save(tmp_path / "maps" / "000000000008.png")
    return tmp_path


def layout_of(item: Item) -> Layout:
    return Layout.from_json(dict(item.layout or {}))


def test_eval_all(coco: Path) -> None:
    suite = suites.find(f"coco-stuff:{coco},protocol=eval-all")
    first, second = suite.items
    assert first.prompt == "A person at a dining table, sky, table"
    layout = layout_of(first)
    assert set(layout.phrases) == {"person", "dining table", "table#2", "sky"}
    masks = dict(zip(layout.phrases, layout.masks((20, 40)), strict=True))
    assert masks["person"].sum() == 200
    assert masks["table#2"].sum() == 380
    assert second.prompt == "Just grass, sky"


def test_eval_filtered_drops_the_small(coco: Path) -> None:
    (first, _) = suites.find(f"coco-stuff:{coco}").items
    assert "sky" not in layout_of(first).phrases


def test_eval_few_is_seeded(coco: Path) -> None:
    texts = [
        suites.find(f"coco-stuff:{coco},protocol=eval-few,seed={seed}").to_text() for seed in (1, 1)
    ]
    assert texts[0] == texts[1]
    counts = {
        len(
            layout_of(suites.find(f"coco-stuff:{coco},protocol=eval-few,seed={n}").items[0]).regions
        )
        for n in range(12)
    }
    assert counts == {1, 2, 3}


def test_limit(coco: Path) -> None:
    assert len(suites.find(f"coco-stuff:{coco},limit=1").items) == 1


def test_bad_coco_folders(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="protocol 'x'"):
        suites.find(f"coco-stuff:{coco},protocol=x")
    with pytest.raises(EvaluationError, match="option 'colour=1'"):
        suites.find(f"coco-stuff:{coco},colour=1")
    with pytest.raises(EvaluationError, match="not a whole number"):
        suites.find(f"coco-stuff:{coco},seed=a")
    with pytest.raises(EvaluationError, match="no such file or folder"):
        suites.find(f"coco-stuff:{tmp_path / 'none'}")
    Image.new("RGB", (4, 4)).save(coco / "maps" / "000000000007.png")
    with pytest.raises(EvaluationError, match="has colours"):
        suites.find(str(coco))
    (coco / "maps" / "000000000007.png").write_bytes(b"\x89PNG")
    with pytest.raises(EvaluationError, match="cannot be read"):
        suites.find(str(coco))
    (coco / "captions_val2017.json").write_text("{}")
    with pytest.raises(EvaluationError, match="COCO captions"):
        suites.find(str(coco))
    for text, told in (
        ("nothing", "line 1: 'nothing' is not as"),
        ("1: cat\n1: dog", "line 2: 1 is 'cat' too"),
        ("0: unlabeled", "names no class"),
    ):
        (coco / "labels.txt").write_text(text)
        with pytest.raises(EvaluationError, match=told):
            suites.find(str(coco))


def test_what_is_passed_over_is_told(coco: Path) -> None:
    assert suites.find(str(coco)).description == ""
    assert "at offset 3, taken as unlabelled: 2 (3, 4)" in (
        suites.find(f"coco-stuff:{coco},offset=3").description
    )
    (coco / "maps" / "000000000008.png").unlink()
    told = suites.find(str(coco)).description
    assert told == "captions without a label picture: 1 (000000000008)"
    captions = json.loads((coco / "captions_val2017.json").read_text())
    captions["annotations"][1]["caption"] = " "
    (coco / "captions_val2017.json").write_text(json.dumps(captions))
    (item,) = suites.find(str(coco)).items
    assert item.prompt.startswith("Second caption")
