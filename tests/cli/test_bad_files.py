"""Data files that are damaged or not what they should be: refused, with the file and the row."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cli.invoke import fedlens, refused, sets, small
from PIL import Image

HUB = sets('data.source="hub:me/mine"')


def png(side: int = 8) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def hub(sides=(8,) * 12, labels=(0, 1, 2) * 4, name: str = "mine", **columns: list) -> Path:
    """A data set in the hub's layout under data/."""
    folder = Path("data") / name
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(side), "path": None} for side in sides]
    for split in ("train", "test"):
        table = pa.table({"img": images, "label": list(labels), **columns})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder / "train-00000-of-00001.parquet"


def run(*changes: str):
    return fedlens("run", small(), *HUB, *sets(*changes), "--data-dir", "data")


def test_a_truncated_file_is_named():
    file = hub()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    answer = run()

    refused(answer, str(file), "not a whole parquet file", "fetch it again")


def test_an_image_of_another_size_is_named_with_its_row():
    file = hub(sides=(*(8,) * 5, 9, *(8,) * 6))
    refused(run(), f"{file}, row 5", "8", "9", "data.size")


def test_a_label_outside_the_classes_is_named_with_its_row():
    file = hub(labels=(0, 1, -1) * 4)
    refused(run(), f"{file}, row 2", "label is outside", "-1 (4 such rows)")


def test_a_missing_test_file_of_a_known_set_is_told():
    hub(name="cifar10").with_name("test-00000-of-00001.parquet").unlink()
    refused(fedlens("run", small(), *sets('data.source="cifar10"'), "--data-dir", "data"), "cifar10")


def test_files_of_another_set_do_not_pass_for_a_known_one():
    hub(name="cifar10")
    answer = fedlens("run", small(), *sets('data.source="cifar10"'), "--data-dir", "data")
    refused(answer, "the images are not those of uoft-cs/cifar10", "[3, 8, 8] for [3, 32, 32]")


def test_a_column_of_the_data_deals_it_and_a_missing_one_is_told():
    hub(writer=["ann", "bob", "cid"] * 4)
    answer = run('clients.partition="natural:writr"', "clients.count=3")
    refused(answer, "the data has no column 'writr'", "writer")
    refused(run('clients.partition="natural:writer"'), "3 distinct values for 6 clients", "Set clients.count to 3")


def test_images_of_two_sizes_in_a_folder_are_told():
    for name in "ab":
        Path("images", name).mkdir(parents=True)
        for number in range(6):
            Path("images", name, f"{number}.png").write_bytes(png(8 if (name, number) != ("b", 3) else 7))
    answer = fedlens("run", small(), *sets('data.source="folder:images"'))
    refused(answer, str(Path("images", "b", "3.png")), "7", "data.size")
    Path("images", "a", "0.png").write_bytes(b"no image")
    refused(fedlens("run", small(), *sets('data.source="folder:images"')), str(Path("images", "a", "0.png")))
    refused(fedlens("run", small(), *sets('data.source="folder:imags"')), "Did you mean 'images'?")
