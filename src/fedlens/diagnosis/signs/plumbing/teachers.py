"""B5, B6: teachers that speak of other examples, or fall silent."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence, Watched
from fedlens.diagnosis.evidence.rounds import Tie
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.loss.proximal import named
from fedlens.diagnosis.signs.reading import number, percent, place

ROWS = 100  # at least
NOTHING, SOMETHING = 0.05, 0.05  # shares of the largest chi-square that the teacher stays, the student gets above
TIMES = 5.0  # that the student's share is above what the teacher's may be
DISTILLING = ("distil", "knowledge", "gkt", "kd", "teach", "fedmd", "feddf")


def teacher_speaks_of_others(e: Evidence) -> Finding | None:
    """B5: a teacher's rows belong to other examples than the student's: kept by batch number, dealt out anew.

    Measured from the second round on: its answers are independent of the labels beside them (chi-square), while those
    of the student, in the same rows, are not. Healthy teachers, also bad ones, depend on what they are asked. A teacher
    that always gives one answer is not judged.
    """
    seen = [v.watched for r in e.rounds if r.number > 1 for v in r.visits if v.watched.teacher_rows]
    teacher, student = _sum([w.teacher_tie for w in seen]), _sum([w.student_tie for w in seen])
    rows = sum(w.teacher_rows for w in seen)
    if rows < ROWS or not teacher.freedom or not teacher.most or not student.most:
        return None
    spread = 3 * math.sqrt(2 * teacher.freedom)
    nothing = teacher.squares < teacher.freedom + spread
    at_most = (max(0.0, teacher.squares - teacher.freedom) + spread) / teacher.most
    something = (student.squares - student.freedom) / student.most
    if not nothing or at_most > NOTHING or something < max(SOMETHING, TIMES * at_most):
        return None
    right, chance, own = (
        sum(w.teacher_rows * (value or 0.0) for w, value in zip(seen, values, strict=True)) / rows
        for values in ([w.teacher for w in seen], [w.teacher_chance for w in seen], [w.student for w in seen])
    )
    return Finding(
        "B5",
        Certainty.FOUND,
        f"The teacher speaks of other examples: it names the label of {percent(right)} of its rows, as answers "
        f"dealt out at random would ({percent(chance)}); the student names {percent(own)}.",
        (
            Measured("labels that the teacher names", "M32", f"{percent(right)} of {rows}", f"above {percent(chance)}"),
            Measured(
                "chi-square of its answers and the labels",
                "M32",
                f"{number(teacher.squares)} at {teacher.freedom} degrees of freedom",
                f"far above {teacher.freedom}",
            ),
        ),
        "Keep the teacher's answers by example, not by place in a shuffled order, or compute them from the batch.",
        where=place(e, "fit"),
        weight=0.3,
        hides=frozenset({"B6", "C1", "P1", "O1", "O2"}),
    )


def teacher_falls_silent(e: Evidence) -> Finding | None:
    """B6: teachers are there for few visits only, or say nothing: what holds their answers is emptied by its owner.

    Measured in visits of clients that had been visited before. Healthy: a teacher in each, whose rows differ by class.
    Distillation at the server shows no teacher at clients: none at all is only noted.
    """
    full = [(r.number, v.client, v.watched) for r in e.rounds for v in r.visits if v.watched.loss is not None]
    met: set[int] = set()
    again: list[Watched] = []
    for _, client, watched in full:
        if client in met:
            again.append(watched)
        met.add(client)
    blank = [w for _, _, w in full if w.teacher_blank]
    there = [w for _, _, w in full if w.teacher_rows]
    without = [w for w in again if not w.teacher_rows and not w.teacher_blank]
    method = named(e.facts.declared.method)
    if method and not any(part in method for part in DISTILLING):
        return None
    certainty = Certainty.CONSISTENT
    if there and len(again) > 1 and 2 * len(without) > len(again):
        says = f"Clients visited again have no teacher in {len(without)} of {len(again)} visits, though others have."
    elif method and blank and not there:
        says = f"The teacher says nothing: its rows are all equal in {len(blank)} visits."
    elif method and not there and len(again) > 1 and all(w.beside is False for w in again):
        says, certainty = "Distillation is declared, and no client trains towards a teacher.", Certainty.NOTED
    else:
        return None
    return Finding(
        "B6",
        certainty,
        says,
        (Measured("visits with a teacher", "M32", f"{len(there)} of {len(full)}", "all but each client's first"),),
        "Give every client a copy of its teacher's answers: what is shared is emptied for all.",
        also=("H5",),
        where=place(e, "fit"),
        weight=0.1,
    )


def _sum(ties: Sequence[Tie | None]) -> Tie:
    there = [one for one in ties if one is not None]
    return Tie(sum(t.squares for t in there), sum(t.freedom for t in there), sum(t.most for t in there))
