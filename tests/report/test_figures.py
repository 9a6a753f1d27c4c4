"""Figures: the same bytes for the same data, ids of their own, colours that follow the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedlens.report.canvas import THEME, spread
from fedlens.report.figures import (
    Curve,
    accuracy_figure,
    overlay_figure,
    recall_figure,
    save,
    split_figure,
    to_svg,
    updates_figure,
)
from fedlens.report.split import chosen, split_caption


def an_accuracy_figure() -> object:
    run = Curve("this run", [0, 5, 10], [0.1, 0.6, 0.55])
    return accuracy_figure([run], [Curve("centralised", [0], [0.9])], chance=0.1)


def test_the_same_data_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    assert to_svg(an_accuracy_figure(), "one") == to_svg(an_accuracy_figure(), "one")
    for name in ("a.svg", "a.png"):
        first = save(an_accuracy_figure(), tmp_path / "first" / name).read_bytes()
        assert first == save(an_accuracy_figure(), tmp_path / "second" / name).read_bytes()


def test_two_figures_share_no_ids() -> None:
    counts = np.eye(4, dtype=int) * 5
    found = [set(re.findall(r'\sid="([^"]+)"', to_svg(figure, name)))
             for name, figure in (("one", an_accuracy_figure()), ("two", an_accuracy_figure()),
                                  ("three", split_figure(counts, list("abcd"))))]  # fmt: skip
    assert all(found)
    assert not found[0] & found[1] and not found[1] & found[2] and not found[0] & found[2]


def test_a_figure_in_the_page_has_the_page_s_colours_and_no_white_background() -> None:
    text = to_svg(an_accuracy_figure(), "one")
    assert "currentColor" in text
    assert not any(sentinel in text for sentinel in THEME)
    assert "#000000" not in text and "#ffffff" not in text.replace("var(--paper, #ffffff)", "")


def test_text_stays_text_so_that_it_can_be_searched_and_copied() -> None:
    text = to_svg(an_accuracy_figure(), "one").replace("\u202f", " ")
    assert "90.0 %  centralised" in text
    assert "55.0 %  this run" in text
    assert "best 60.0 % in round 5" in text
    assert "10.0 %  chance" in text


def test_words_for_the_screen_reader_are_escaped() -> None:
    assert 'aria-label="&lt;a&gt; &quot;b&quot;"' in to_svg(an_accuracy_figure(), "one", '<a> "b"')


@pytest.mark.parametrize("wanted", [[0.5, 0.5, 0.5], [0.99, 1.0, 0.98, 0.2], [0.0, 0.01]])
def test_labels_keep_their_distance_their_order_and_stay_below_the_top(wanted: list[float]) -> None:
    placed = spread(wanted, [0.1] * len(wanted), 0.0, 1.0)
    gaps = np.diff(sorted(placed))
    assert (gaps >= 0.1 - 1e-9).all()
    assert max(placed) <= 0.95 + 1e-9
    assert list(np.argsort(placed, kind="stable")) == list(np.argsort(wanted, kind="stable"))


def test_a_label_that_has_room_stays_at_its_curve() -> None:
    assert spread([0.2, 0.6], [0.1, 0.1], 0.0, 1.0) == [0.2, 0.6]


def test_a_thousand_clients_are_shown_as_a_hundred_from_largest_to_smallest() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (1000, 10))
    shown = chosen(counts)
    sizes = counts.sum(1)
    assert len(shown) == len(set(shown.tolist())) == 100
    assert sizes[shown[0]] == sizes.max() and sizes[shown[-1]] == sizes.min()
    assert (np.diff(sizes[shown]) <= 0).all()
    assert "100 of 1,000" in split_caption(counts)
    assert "of 20" not in split_caption(counts[:20])


def test_a_split_of_a_hundred_classes_and_one_of_one_client_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    assert "<svg" in to_svg(split_figure(rng.integers(0, 9, (30, 100)), [f"class {c}" for c in range(100)]), "many")
    assert "<svg" in to_svg(split_figure(np.array([[3, 0]]), ["a", "b"]), "one")


def test_a_class_that_was_never_tested_is_said_so() -> None:
    assert "none tested" in to_svg(recall_figure([0.5, None], ["a", "b"]), "recall")


def test_the_line_of_the_updates_is_the_median_client_of_each_round() -> None:
    figure = updates_figure(np.array([1, 2, 1, 2, 1]), np.array([1.0, 4.0, 5.0, 2.0, 2.0]))
    assert list(figure.axes[0].lines[0].get_ydata()) == [2.0, 3.0]


def test_more_runs_than_colours_are_still_told_apart() -> None:
    figure = overlay_figure([Curve(f"run {index}", [1, 2], [0.1, 0.1 * index]) for index in range(1, 9)])
    looks = [(line.get_color(), str(line.get_linestyle()), line._dash_pattern) for line in figure.axes[0].lines
             if line.get_label().startswith("_child") and len(line.get_xdata()) == 2]  # fmt: skip
    assert len({str(look) for look in looks}) == 8
