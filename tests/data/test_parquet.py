"""The hub's parquet layout, read from small files made here; and files that are damaged in every way we know."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedlens.data import Data, load
from fedlens.errors import DataError


def encoded(pixels, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def pictures(count, shape=(6, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def table(blobs, labels, image="image", label="label", names=("cat", "dog", "eel"), **columns):
    """A table as the hub writes it, with the features beside the schema."""
    rows = [None if blob is None else {"bytes": blob, "path": None} for blob in blobs]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = {image: pa.array(rows, kind), label: pa.array(labels, pa.int64())}
    made = pa.table(fields | {name: pa.array(values) for name, values in columns.items()})
    if not names:
        return made
    features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    return made.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})


def write(folder, name, made, rows=4):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, folder / name, row_group_size=rows)
    return folder / name


def small(folder, count=10, test=True, **options):
    """A whole data set of `count` + 5 images in `folder`; the pixels of both parts."""
    train, held = pictures(count), pictures(5, seed=1)
    write(folder, "train-00000-of-00001.parquet", table(map(encoded, train), np.arange(count) % 3, **options))
    if test:
        write(folder, "test-00000-of-00001.parquet", table(map(encoded, held), np.arange(5) % 3, **options))
    return train, held


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDLENS_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def read(root, source="hub:zoo/pets", **options):
    return load(Data(source, directory=str(root), **options))


def refused(root, source="hub:zoo/pets", **options):
    with pytest.raises(DataError) as caught:
        read(root, source, **options)
    (problem,) = caught.value.problems
    assert problem.do and caught.value.exit_code == 2
    return problem


@pytest.mark.parametrize("inner", ["zoo/pets", "pets", "zoo/pets/data", "pets/plain_text", "pets/pets", "."])
def test_every_folder_layout_of_the_hub_is_found(tmp_path, inner):
    train, held = small(tmp_path / "root" / inner)
    split = read(tmp_path / "root")
    assert np.array_equal(split.train.images.numpy(), train.transpose(0, 3, 1, 2))
    assert np.array_equal(split.test.images.numpy(), held.transpose(0, 3, 1, 2))
    assert split.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert split.train.classes == split.test.classes == ("cat", "dog", "eel")
    assert split.test_is == "the official test set (5 images)"
    assert split.train.mean == pytest.approx(train.mean(axis=(0, 1, 2)) / 255)
    assert split.test.std == split.train.std == pytest.approx(train.std(axis=(0, 1, 2)) / 255)


def test_the_directory_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    for place, count in (("given", 3), ("environment", 6), ("cache", 9)):
        small(tmp_path / place / "pets", count)
    monkeypatch.setenv("FEDLENS_DATA", str(tmp_path / "environment"))
    assert len(read(tmp_path / "given").train) == 3
    assert len(load(Data("hub:zoo/pets")).train) == 6
    monkeypatch.delenv("FEDLENS_DATA")
    assert len(load(Data("hub:zoo/pets")).train) == 9


def test_the_files_of_another_known_set_do_not_pass_for_this_one(tmp_path):
    small(tmp_path / "mnist")
    problem = refused(tmp_path / "mnist", "fashion-mnist")
    assert "not on this machine" in problem.what
    problem = refused(tmp_path / "mnist", "mnist")  # right name, wrong images
    assert "not those of ylecun/mnist" in problem.what and problem.seen == "[3, 6, 5] for [1, 28, 28]"


def test_the_only_set_of_a_directory_does_not_pass_for_one_of_another_name(tmp_path):
    small(tmp_path / "root" / "pets")
    assert "zoo/birds is not on this machine" in refused(tmp_path / "root", "hub:zoo/birds").what


def test_a_known_set_without_its_test_files_gets_no_hold_out_of_its_own(tmp_path):
    grey = [encoded(picture) for picture in pictures(10, (28, 28))]
    write(tmp_path / "mnist", "train-00000-of-00001.parquet", table(grey, range(10), names=()))
    problem = refused(tmp_path, "mnist")
    assert "the test files of ylecun/mnist are missing" in problem.what


def test_several_parts_need_a_name_and_take_it(tmp_path):
    small(tmp_path / "pets" / "fine", 6)
    small(tmp_path / "pets" / "coarse", 9)
    problem = refused(tmp_path)
    assert "several parts" in problem.what and problem.seen == "coarse, fine" and "hub:OWNER/NAME/coarse" in problem.do
    assert len(read(tmp_path, "hub:zoo/pets/fine").train) == 6


def test_shards_are_read_in_order_across_row_groups(tmp_path):
    train = pictures(11)
    blobs = [encoded(picture) for picture in train]
    write(tmp_path / "pets", "train-00000-of-00002.parquet", table(blobs[:7], [0] * 7), rows=3)
    write(tmp_path / "pets", "train-00001-of-00002.parquet", table(blobs[7:], [1] * 4), rows=3)
    write(tmp_path / "pets", "validation-00000-of-00001.parquet", table(blobs[:2], [0, 1]))
    split = read(tmp_path)
    assert np.array_equal(split.train.images.numpy(), train.transpose(0, 3, 1, 2))
    assert split.train.labels.tolist() == [0] * 7 + [1] * 4
    assert split.test_is == "the official validation set (2 images)"


def test_large_images_are_decoded_in_threads_in_the_same_order(tmp_path):
    train = pictures(9, (64, 64, 3))  # 12 kB each as PNG, above the size where threads begin
    write(tmp_path / "pets", "train-00000-of-00001.parquet", table(map(encoded, train), [0, 1, 2] * 3), rows=5)
    write(tmp_path / "pets", "test-00000-of-00001.parquet", table(map(encoded, train[:1]), [0]))
    assert np.array_equal(read(tmp_path).train.images.numpy(), train.transpose(0, 3, 1, 2))


def test_without_test_files_a_stratified_fifth_is_held_out(tmp_path):
    small(tmp_path / "pets", 30, test=False)
    split = read(tmp_path)
    assert np.bincount(split.test.labels).tolist() == [2, 2, 2] and len(split.train) == 24
    assert split.test_is == "a stratified 20 % hold-out of pets, which has no test files (6 examples)"


def test_columns_are_found_by_their_type_and_the_others_are_kept(tmp_path):
    small(tmp_path / "pets", image="photo", label="species")
    assert read(tmp_path).train.classes == ("cat", "dog", "eel")
    made = table(map(encoded, pictures(4)), [0, 1, 2, 0], "img", "fine_label", (), site=list("abca"), age=[1, 2, 3, 4])
    for part in ("train", "test"):
        write(tmp_path / "more", f"{part}-00000-of-00001.parquet", made)
    train = read(tmp_path, "hub:zoo/more").train
    assert train.classes == ("0", "1", "2")  # no names in the file
    assert train.columns["site"].tolist() == list("abca") and train.columns["age"].tolist() == [1, 2, 3, 4]


def test_one_coloured_image_makes_three_channels_of_grey_ones(tmp_path):
    grey = pictures(5, (6, 5))
    blobs = [encoded(picture) for picture in grey] + [encoded(pictures(1)[0])]
    for part in ("train", "test"):
        write(tmp_path / "pets", f"{part}-00000-of-00001.parquet", table(blobs, [0] * 6))
    images = read(tmp_path).train.images
    assert images.shape == (6, 3, 6, 5)
    assert np.array_equal(images[:5, 1].numpy(), grey)


def test_images_of_unequal_size_are_refused_by_name_and_accepted_with_a_size(tmp_path):
    blobs = [encoded(picture) for picture in pictures(6)] + [encoded(pictures(1, (7, 9, 3))[0])]
    path = write(tmp_path / "pets", "train-00000-of-00001.parquet", table(blobs, [0] * 7))
    write(tmp_path / "pets", "test-00000-of-00001.parquet", table(blobs[-1:], [0]))
    problem = refused(tmp_path)
    assert problem.where == f"{path}, row 6" and "another size" in problem.what
    assert problem.seen == f"9 x 7 pixels, where {path}, row 0 has 5 x 6" and "data.size" in problem.do
    split = read(tmp_path, size=8)
    assert split.train.shape == split.test.shape == (3, 8, 8)


def test_test_images_of_another_shape_than_the_training_images_are_refused(tmp_path):
    small(tmp_path / "pets")
    write(tmp_path / "pets", "test-00000-of-00001.parquet", table(map(encoded, pictures(2, (7, 7, 3))), [0, 1]))
    assert "different shapes" in refused(tmp_path).what


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_a_truncated_file_is_named_with_its_size(tmp_path, keep):
    small(tmp_path / "pets")
    path = tmp_path / "pets" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    problem = refused(tmp_path)
    assert problem.where == str(path) and "not a whole parquet file" in problem.what
    assert problem.seen.startswith(f"{path.stat().st_size} bytes") and "fetch it again" in problem.do


def test_damage_in_the_middle_of_a_file_is_told_too(tmp_path):
    small(tmp_path / "pets", 40)
    path = tmp_path / "pets" / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)
    problem = refused(tmp_path)
    assert str(path) in problem.where


def test_a_pointer_of_git_lfs_is_recognised(tmp_path):
    small(tmp_path / "pets")
    path = tmp_path / "pets" / "train-00000-of-00001.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refused(tmp_path).do


def test_a_missing_shard_is_named(tmp_path):
    small(tmp_path / "pets")
    path = tmp_path / "pets" / "train-00000-of-00001.parquet"
    path.rename(path.with_name("train-00001-of-00003.parquet"))
    problem = refused(tmp_path)
    assert problem.where == str(tmp_path / "pets")
    assert "2 of 3 train files missing: train-00000-of-00003.parquet, train-00002-of-00003.parquet" in problem.what


def test_files_of_two_downloads_in_one_folder_are_refused(tmp_path):
    small(tmp_path / "pets")
    write(tmp_path / "pets", "train-00000-of-00002.parquet", table([encoded(pictures(1)[0])], [0]))
    assert "two series of train files" in refused(tmp_path).what


@pytest.mark.parametrize(
    ("blob", "what"),
    [
        (b"no image at all", "cannot be decoded"),
        (b"", "cannot be decoded"),
        (encoded(pictures(1, (64, 64, 3))[0])[:300], "cannot be decoded"),
        (None, "has no bytes"),
        (encoded(np.zeros((6, 5), dtype=np.uint16)), "more than 8 bits"),
    ],
)
@pytest.mark.parametrize("row", [0, 5])
def test_an_image_that_cannot_be_used_is_told_with_its_file_and_row(tmp_path, blob, what, row):
    blobs = [encoded(picture) for picture in pictures(8)]
    blobs[row] = blob
    path = write(tmp_path / "pets", "train-00000-of-00001.parquet", table(blobs, [0] * 8))
    write(tmp_path / "pets", "test-00000-of-00001.parquet", table(blobs[1:2], [0]))
    problem = refused(tmp_path)
    assert what in problem.what and problem.where == f"{path}, row {row}"


@pytest.mark.parametrize(("wrong", "seen"), [(3, "3 (1 such rows)"), (-1, "-1 (1 such rows)")])
@pytest.mark.parametrize("row", [0, 2])
def test_a_label_outside_the_classes_is_told_with_its_file_and_row(tmp_path, wrong, seen, row):
    blobs = [encoded(picture) for picture in pictures(4)]
    write(tmp_path / "pets", "train-00000-of-00002.parquet", table(blobs, [0, 1, 2, 0]))
    path = write(tmp_path / "pets", "train-00001-of-00002.parquet", table(blobs, [0] * row + [wrong] + [0] * (3 - row)))
    problem = refused(tmp_path)
    assert problem.where == f"{path}, row {row}" and "outside 0..2" in problem.what and problem.seen == seen


def test_a_missing_label_is_told_with_its_row(tmp_path):
    made = table([encoded(picture) for picture in pictures(3)], [0, None, 1])
    path = write(tmp_path / "pets", "train-00000-of-00001.parquet", made)
    assert refused(tmp_path).where == f"{path}, row 1"


@pytest.mark.parametrize(("drop", "kind"), [("image", "images"), ("label", "labels")])
def test_a_file_without_images_or_labels_shows_the_columns_it_has(tmp_path, drop, kind):
    made = table([encoded(pictures(1)[0])], [0]).drop_columns([drop])
    write(tmp_path / "pets", "train-00000-of-00001.parquet", made)
    problem = refused(tmp_path)
    assert f"no column holds the {kind}" in problem.what and problem.seen and "Rename it" in problem.do


def test_shards_with_different_columns_are_refused(tmp_path):
    blobs = [encoded(picture) for picture in pictures(2)]
    write(tmp_path / "pets", "train-00000-of-00002.parquet", table(blobs, [0, 1], site=["a", "b"]))
    path = write(tmp_path / "pets", "train-00001-of-00002.parquet", table(blobs, [0, 1]))
    problem = refused(tmp_path)
    assert problem.where == str(path) and "column 'site' is missing" in problem.what
