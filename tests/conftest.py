"""Every test runs in a folder of its own, with one thread, and sees neither the user's data nor the network."""

import os
from pathlib import Path

import pytest
import torch

REAL_DATA = os.environ.pop("FEDLENS_DATA", None)
os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def real_data() -> Path:
    """The folder with the real CIFAR-10 and MNIST."""
    if not REAL_DATA or not Path(REAL_DATA).is_dir():
        pytest.skip("FEDLENS_DATA does not name a folder with the real data sets")
    return Path(REAL_DATA).absolute()
