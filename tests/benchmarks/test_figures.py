"""Figures, and the report made of them."""

import pytest

from benchmarks.figures import FIGURES, Samples, latencies, percentile
from benchmarks.machine import sizes
from benchmarks.options import PHASES, parse
from benchmarks.output import heard
from benchmarks.report import as_data, table
from benchmarks.run import ALL

BY_KEY = {figure.key: figure for figure in FIGURES}


def samples_of(**sides: dict[str, list[float]]) -> Samples:
    """Samples with these figures of these sides."""
    made = Samples()
    for side, figures in sides.items():
        for key, values in figures.items():
            for value in values:
                made.add(side, {key: value})
    return made


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (95, 95), (99, 99), (100, 100)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile(range(100, 0, -1), percent) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_latencies_are_told_in_milliseconds() -> None:
    assert latencies([0.002] * 300) == {"pickup_p50": 2.0, "pickup_p95": 2.0, "pickup_p99": 2.0}


def test_of_several_repeats_the_median_counts() -> None:
    assert samples_of(djtasks={"drain": [10.0, 1000.0, 11.0]}).median("djtasks", "drain") == 11.0


def test_a_figure_that_was_not_measured_has_no_median_and_no_ratio() -> None:
    samples = samples_of(djtasks={"drain": [10.0]})
    assert samples.median("djtasks", "memory") is None
    assert samples.ratio(BY_KEY["drain"], "celery_solo") is None


def test_a_ratio_above_one_is_better_whichever_way_the_figure_goes() -> None:
    samples = samples_of(
        djtasks={"drain": [200.0], "pickup_p50": [2.0]}, celery_prefork={"drain": [100.0], "pickup_p50": [4.0]}
    )
    assert samples.ratio(BY_KEY["drain"], "celery_prefork") == 2.0
    assert samples.ratio(BY_KEY["pickup_p50"], "celery_prefork") == 2.0


def test_the_table_has_a_column_for_each_side_and_for_each_ratio() -> None:
    lines = table(samples_of(djtasks={"drain": [20_000.0]}, celery_solo={"drain": [1_000.0]}, sql={"drain": [5.0]}))
    head, row = lines.splitlines()[:2]
    assert head.split("  ")[-1].strip() == "× Celery 2 × solo"
    assert row.split("tasks/s")[1].split() == ["20,000", "1,000", "5", "20.00"]


def test_the_table_shows_the_span_of_repeats() -> None:
    assert "2,000 (1,000–3,000)" in table(samples_of(djtasks={"drain": [1_000.0, 3_000.0, 2_000.0]}))


def test_the_data_holds_every_sample_and_what_could_not_be_measured() -> None:
    data = as_data({"quick": True}, samples_of(djtasks={"drain": [3.0, 1.0, 2.0]}), {"Celery": "is missing"})
    assert data["figures"]["djtasks"]["drain"] == {"median": 2.0, "samples": [3.0, 1.0, 2.0], "unit": "tasks/s"}
    assert data["failures"] == {"Celery": "is missing"}


def test_the_sizes_of_batches_are_found_where_the_product_keeps_them() -> None:
    assert all(value is not None for value in sizes().values())


def test_every_phase_that_can_be_chosen_is_there() -> None:
    assert tuple(ALL) == PHASES


def test_chosen_phases_run_in_their_order() -> None:
    assert parse(["--only", "memory,single"]).only == ("single", "memory")


@pytest.mark.parametrize("wrong", [["--only", "drian"], ["--tasks", "0"], ["--against", "cron"]])
def test_a_wrong_option_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_half_a_line_and_the_talk_of_libraries_are_not_taken_for_figures() -> None:
    assert heard('{"done": 5}\nWarning: old\n{"answer": {"seconds": 2}}\n{"done"') == [
        {"done": 5},
        {"answer": {"seconds": 2}},
    ]
