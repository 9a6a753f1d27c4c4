"""From the name of a source to its examples: digits, folders, functions, the hub, and names that are wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fedlens.data import SOURCES, Data, check_source, known_sources, load, moments
from fedlens.errors import ConfigurationError, DataError


def refused(source, **options):
    with pytest.raises((ConfigurationError, DataError)) as caught:
        load(Data(source, **options))
    (problem,) = caught.value.problems
    assert problem.do
    return problem


def test_digits_are_real_stratified_and_always_the_same():
    split = load(Data())
    assert split.train.images.shape == (1437, 1, 8, 8) and split.train.images.dtype == torch.uint8
    assert (len(split.test), split.train.classes) == (360, tuple("0123456789"))
    assert int(split.train.images.max()) == 255  # 16 * 255/16
    assert np.ptp(np.bincount(split.test.labels)) <= 2  # 174 to 183 of each: a fifth is 35 to 37
    assert torch.equal(load(Data("digits")).test.images, split.test.images)
    assert split.test_is == "a fixed stratified hold-out of scikit-learn's 1797 digits (360 images)"


def test_the_moments_in_the_table_are_those_of_the_digits():
    known = SOURCES["digits"]
    mean, std = moments(load(Data()).train.images)
    assert mean == pytest.approx(known.mean, abs=1e-4) and std == pytest.approx(known.std, abs=1e-4)


def test_the_table_is_consistent():
    for name, known in SOURCES.items():
        assert len(known.mean) == len(known.std) == known.shape[0], name
        assert known.licence and known.citation and known.train > known.test > 0


def test_digits_can_be_enlarged():
    assert load(Data("digits", size=16)).test.shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("source", "guess"),
    [("mnits", "mnist"), ("CIFAR10", "cifar10"), ("cifar-10", "cifar10"), ("fashion_mnist", "fashion-mnist")],
)
def test_a_misspelt_source_names_the_nearest(source, guess):
    with pytest.raises(ConfigurationError, match=f"Did you mean '{guess}'") as caught:
        check_source(source)
    assert caught.value.problems[0].where == "data.source"
    with pytest.raises(ConfigurationError):
        load(Data(source))


@pytest.mark.parametrize("source", ["", "xyzzy", "folder:", "hub:", "hub:name", "a.b:", ":f", "a b:f", "hub:a/b/c/d"])
def test_what_is_no_source_lists_all_of_them(source):
    with pytest.raises(ConfigurationError) as caught:
        check_source(source)
    assert all(name in str(caught.value) for name in known_sources())


def test_a_repository_without_hub_before_it_is_understood():
    with pytest.raises(ConfigurationError, match="Did you mean 'hub:owner/flowers'"):
        check_source("owner/flowers")


def test_data_takes_its_source_first():
    assert Data("mnist").source == "mnist" and Data().source == "digits"
    with pytest.raises(ConfigurationError, match="'augmet' is not a known key"):
        Data(augmet="none")


# -- folders --


def paint(path, side=(6, 5), grey=False, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = side if grey else (*side, 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def test_class_folders_become_classes_and_a_fifth_is_held_out(tmp_path):
    for name in ("dog", "cat"):
        for i in range(10):
            paint(tmp_path / name / f"{i}.png", seed=i)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    split = load(Data(f"folder:{tmp_path}"))
    assert split.train.classes == ("cat", "dog") and split.train.shape == (3, 6, 5)
    assert np.bincount(split.test.labels).tolist() == [2, 2] and len(split.train) == 16
    assert split.test_is == "a stratified 20 % hold-out of the folder (4 examples)"


def test_train_and_test_folders_are_used_as_they_are(tmp_path):
    for i, name in enumerate(("cat", "dog", "dog")):
        paint(tmp_path / "train" / name / "deep" / f"{i}.PNG", grey=True, seed=i)
    paint(tmp_path / "test" / "dog" / "9.png", grey=True, seed=9)
    split = load(Data(f"folder:{tmp_path}"))
    assert split.train.labels.tolist() == [0, 1, 1] and split.test.labels.tolist() == [1]
    assert split.train.shape == (1, 6, 5)
    assert split.test_is == "the images in test/ (1 images)"


def test_two_image_sizes_in_a_folder_are_refused_and_accepted_with_a_size(tmp_path):
    for i in range(5):
        paint(tmp_path / "cat" / f"{i}.png", seed=i)
    paint(tmp_path / "dog" / "large.png", (12, 9))
    problem = refused(f"folder:{tmp_path}")
    assert problem.where == str(tmp_path / "dog" / "large.png")
    assert "9 x 12 pixels" in problem.seen and "5 x 6" in problem.seen and "data.size" in problem.do
    split = load(Data(f"folder:{tmp_path}", size=4))
    assert split.train.shape == (3, 4, 4) and len(split.train) + len(split.test) == 6


def test_a_broken_image_in_a_folder_is_named(tmp_path):
    paint(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "2.png").write_bytes(b"\x89PNG, or not")
    problem = refused(f"folder:{tmp_path}")
    assert problem.where == str(tmp_path / "cat" / "2.png") and "13 bytes" not in problem.what


def test_folders_that_are_absent_empty_or_without_classes_are_told(tmp_path):
    (tmp_path / "flowers").mkdir()
    assert f"Did you mean '{tmp_path / 'flowers'}'" in refused(f"folder:{tmp_path / 'flwers'}").do
    assert "no class folders" in refused(f"folder:{tmp_path / 'flowers'}").what
    (tmp_path / "flowers" / "rose").mkdir()
    assert "hold no images" in refused(f"folder:{tmp_path / 'flowers'}").what
    paint(tmp_path / "set" / "train" / "cat" / "1.png")
    paint(tmp_path / "set" / "test" / "eel" / "1.png")
    assert "class 'eel' has no training images" in refused(f"folder:{tmp_path / 'set'}").what


# -- functions --

MODULE = """
import numpy as np, torch
from fedlens.data import Dataset, Split
def pairs():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (9, 4, 4), dtype=np.uint8), np.arange(9) % 3
    return train, (np.zeros((2, 4, 4), np.uint8), [0, 2])
def points():
    return (np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])), (torch.ones(1, 2), torch.tensor([4]))
def datasets():
    part = Dataset(torch.zeros(3, 2), torch.tensor([0, 1, 0]), ("a", "b"))
    return part, part
def split():
    return Split(*datasets(), "a cohort of last year")
def bad_labels():
    return (np.zeros((3, 2)), [0, -1, 1]), (np.zeros((1, 2)), [0])
def float_labels():
    return (np.zeros((3, 2)), [0.0, 1.0, 1.0]), (np.zeros((1, 2)), [0])
def nan():
    return (np.full((3, 2), np.nan), [0, 1, 1]), (np.zeros((1, 2)), [0])
def alone():
    return np.zeros((3, 2))
def shapes():
    return (np.zeros((3, 2)), [0, 1, 1]), (np.zeros((1, 5)), [0])
def ragged():
    return ([[1], [1, 2]], [0, 1]), (np.zeros((1, 2)), [0])
def late():
    import fedlens_test_neighbour
    return fedlens_test_neighbour.points()
def failing():
    raise RuntimeError("no disk")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "fedlens_test_mine.py").write_text(MODULE)
    (tmp_path / "fedlens_test_neighbour.py").write_text("from fedlens_test_mine import points\n")
    monkeypatch.chdir(tmp_path)
    yield "fedlens_test_mine"
    for name in ("fedlens_test_mine", "fedlens_test_neighbour"):
        sys.modules.pop(name, None)


def test_a_function_may_return_pairs_of_images_and_labels(module):
    split = load(Data(f"{module}:pairs"))
    assert split.train.images.shape == (9, 1, 4, 4) and split.train.classes == ("0", "1", "2")
    assert split.train.mean == split.test.mean == pytest.approx(moments(split.train.images)[0])
    assert split.test_is == "the test set that fedlens_test_mine:pairs returned (2 examples)"
    assert load(Data(f"{module}:pairs", size=8)).train.shape == (1, 8, 8)


def test_a_function_may_return_floats_of_any_shape(module):
    split = load(Data(f"{module}:points"))
    assert split.train.images.dtype == torch.float32 and split.train.shape == (2,)
    assert len(split.train.classes) == 5, "the test set has label 4"
    assert split.train.mean == () and torch.equal(split.train.normalise(split.train.images), split.train.images)
    with pytest.raises(ConfigurationError, match="only images can be resized"):
        load(Data(f"{module}:points", size=8))


def test_a_function_may_return_datasets_or_a_split_and_import_its_neighbours_when_it_runs(module):
    assert load(Data(f"{module}:datasets")).train.classes == ("a", "b")
    assert load(Data(f"{module}:split")).test_is == "a cohort of last year (3 examples)"
    assert len(load(Data(f"{module}:late")).train) == 4
    assert "" not in sys.path[:1]


@pytest.mark.parametrize(
    ("name", "what", "where"),
    [
        ("bad_labels", "label of row 1 is outside", ", train"),
        ("float_labels", "labels are not whole numbers", ", train"),
        ("nan", "row 0 holds NaN", ", train"),
        ("alone", "did not return two data sets", ""),
        ("shapes", "train and test are not alike", ""),
        ("ragged", "no tensor can be made of it", ", train"),
    ],
)
def test_what_a_function_does_wrong_is_told(module, name, what, where):
    problem = refused(f"{module}:{name}")
    assert what in problem.what and problem.where == f"{module}:{name}{where}"


def test_a_function_that_fails_or_is_misspelt_is_told(module):
    failed = refused(f"{module}:failing")
    assert "fedlens_test_mine:failing" in failed.what and failed.where == "data.source"
    assert "RuntimeError: no disk" in failed.seen and "fedlens_test_mine.py:" in failed.seen
    misspelt = refused(f"{module}:pair")
    assert "has no 'pair'" in misspelt.what and "'pairs'" in misspelt.do


def test_modules_that_are_absent_or_broken_are_told(module, tmp_path):
    assert "there is no module 'fedlens_nowhere'" in refused("fedlens_nowhere.deep:f").what
    (tmp_path / "fedlens_test_broken.py").write_text("def f(:\n")
    assert "SyntaxError" in refused("fedlens_test_broken:f").seen
    (tmp_path / "fedlens_test_needy.py").write_text("import fedlens_absent_package\n")
    assert "fedlens_absent_package" in refused("fedlens_test_needy:f").seen


# -- the hub --


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDLENS_DATA", str(tmp_path / "environment"))
    return tmp_path


def hub(monkeypatch, files=(), error=None):
    """A hub with `files`, or one that fails; the list of what was downloaded."""
    fetched = []

    class Api:
        def dataset_info(self, repository, timeout):
            assert timeout <= 10
            if error:
                raise error
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files])

    def snapshot_download(repository, repo_type, allow_patterns, local_dir):
        from test_parquet import small

        fetched.append((repository, repo_type, allow_patterns))
        small(local_dir / files[0].rpartition("/")[0])

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return fetched


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("odd"), TimeoutError()])
def test_data_that_are_nowhere_are_told_with_every_place_and_a_layout_to_copy(empty, monkeypatch, error):
    hub(monkeypatch, error=error)
    (empty / "given").mkdir()
    problem = refused("fashion-mnist", directory=str(empty / "given"))
    for root in ("given", "environment", "cache"):
        for inner in ("zalando-datasets/fashion_mnist", "fashion_mnist", "fashion-mnist"):
            assert str(empty / root / inner) in problem.seen
    assert type(error).__name__ in problem.seen
    assert "train-*.parquet and test-*.parquet into DIR/fashion_mnist/" in problem.do and "FEDLENS_DATA" in problem.do


def test_without_a_network_the_error_comes_fast(empty, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.monotonic()
    assert "cannot be downloaded" in refused("hub:nobody/nothing").what
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("part", ["", "plain_text/"])
def test_a_download_lands_whole_in_the_cache_and_is_found_there_again(empty, monkeypatch, part):
    files = [f"{part}train-00000-of-00001.parquet", f"{part}test-00000-of-00001.parquet", "README.md"]
    fetched = hub(monkeypatch, files)
    assert len(load(Data("hub:zoo/pets")).train) == 10
    assert len(load(Data("hub:zoo/pets")).test) == 5
    assert fetched == [("zoo/pets", "dataset", f"{part}*.parquet")], "fetched once, and only what is needed"


def test_parts_on_the_hub_are_named_before_anything_is_fetched(empty, monkeypatch):
    fetched = hub(monkeypatch, ["a/train-0.parquet", "b/train-0.parquet"])
    assert refused("hub:zoo/pets").seen == "a, b"
    assert "It has: a, b" in refused("hub:zoo/pets/c").do
    hub(monkeypatch, ["data.zip"])
    assert "no train-*.parquet" in refused("hub:zoo/pets").what
    assert not fetched


def test_a_data_directory_that_does_not_exist_is_told(empty):
    problem = refused("mnist", directory=str(empty / "absent"))
    assert "no such data directory" in problem.what and problem.seen == str(empty / "absent")


def test_importing_the_room_imports_nothing_heavy():
    heavy = "pyarrow", "PIL", "sklearn", "huggingface_hub"
    code = f"import sys, fedlens.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
