"""Draw the README's pictures: python docs/images/make.py RUN [FILE.py:FUNCTION], of a run and a diagnosis."""

import sys
from pathlib import Path

import fedlens
from fedlens.report import drawings, read_run
from fedlens.report.doctor.drawings import weights
from fedlens.report.figures import save

run, here = read_run(Path(sys.argv[1])), Path(__file__).parent
for name, draw in (("accuracy", drawings.accuracy), ("split", drawings.split)):
    drawn = draw(run)
    if drawn is None:
        sys.exit(f"{sys.argv[1]} holds nothing to draw '{name}' from")
    print(save(drawn[0], here / f"digits-{name}.png"))
for job in sys.argv[2:]:
    figure = weights(fedlens.diagnose(job).as_dict())
    if figure is None:
        sys.exit(f"{job}: no weights were measured")
    print(save(figure, here / "doctor-weights.png"))
