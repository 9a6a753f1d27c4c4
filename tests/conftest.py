"""Every test runs in a folder of its own, with one thread, and sees neither the user's data nor the network."""

import os
from pathlib import Path

import pytest
import torch

REAL_DATA = os.environ.pop("FEDLENS_DATA", None)
os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Apart from it: what a run leaves in the cache, as the engine found fastest, is no file of the folder.
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def real_data() -> Path:
    """The folder with the real CIFAR-10 and MNIST."""
    if not REAL_DATA or not Path(REAL_DATA).is_dir():
        pytest.skip("FEDLENS_DATA does not name a folder with the real data sets")
    return Path(REAL_DATA).absolute()
