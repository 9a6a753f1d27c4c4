"""Draw the README's pictures from a run folder: python docs/images/make.py runs/latest."""

import sys
from pathlib import Path

from fedlens.report import drawings, read_run
from fedlens.report.figures import save

run, here = read_run(Path(sys.argv[1])), Path(__file__).parent
for name, draw in (("accuracy", drawings.accuracy), ("split", drawings.split)):
    drawn = draw(run)
    if drawn is None:
        sys.exit(f"{sys.argv[1]} holds nothing to draw '{name}' from")
    print(save(drawn[0], here / f"digits-{name}.png"))
