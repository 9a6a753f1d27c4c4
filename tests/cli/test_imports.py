"""What is not needed is not loaded: `--help` without torch, the front door without what only some runs need."""

import json
import os
import subprocess
import sys

HEAVY = ("pyarrow", "sklearn", "matplotlib", "huggingface_hub")


def loaded(code: str) -> set[str]:
    """The top-level modules that `code` has loaded at its end."""
    code += (
        "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_waits_for_no_torch():
    code = "import sys\nsys.argv = ['fedlens', '--help']\nfrom fedlens.cli import main\n"
    modules = loaded(code + "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code")
    assert "typer" in modules
    assert not modules & {"torch", "numpy", "pydantic", *HEAVY}


def test_importing_fedlens_waits_for_no_torch():
    modules = loaded("import fedlens")
    assert "fedlens" in modules
    assert not modules & {"torch", "numpy", "pydantic", *HEAVY}


def test_the_front_door_loads_nothing_heavy_but_torch():
    modules = loaded("import fedlens\nfor name in fedlens.__all__: getattr(fedlens, name)\nfedlens.Experiment()")
    assert "torch" in modules
    assert not modules & set(HEAVY)
