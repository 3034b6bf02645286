"""Progress and what training tells, as a terminal shows it."""

import pytest

from albert_cli import console
from albert_cli.runs import progress
from albert_cli.runs.events import Evaluated, FineTuningPlan, Note, PretrainingPlan, RunBegun, StepDone, WorkDone


@pytest.fixture
def terminal(monkeypatch, capsys):
    """What was shown so far: (stdout, stderr)."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return capsys.readouterr


COUNTS = {"parameters": 1234, "tokens": 5678, "documents": 9, "held_out_documents": 1}
LOSSES = {"masked_lm_loss": 4.5, "sentence_order_loss": 0.7}
EVALUATION = Evaluated(4, 0.5, {"loss": 0.25, "accuracy": 0.75}, best=True, early_stop=True)


def test_fine_tuning_is_reported(terminal):
    with progress.shown(quiet=False) as report:
        report(RunBegun("task", "cola"))
        report(Note("a note"))
        report(WorkDone("features", 1, 3, "rows"))
        report(WorkDone("features", 3, 3, "rows"))
        report(FineTuningPlan(steps=7, warmup_steps=2, train_rows=9))
        report(StepDone(3, {"loss": 1.234}))
        report(EVALUATION)
    out, err = terminal()
    assert out.splitlines() == [
        "task cola",
        "9 rows, 7 steps, 2 of warm-up",
        "step 4  epoch 0.50  loss 0.2500  accuracy 0.7500  best",
        "stopped early: no better for as many evaluations as --early-stop allows",
    ]
    assert "albert: note: a note\n" in err
    for shown in ("features", "training  loss 1.2340", "3/7 steps"):
        assert shown in err


def test_pretraining_is_reported(terminal):
    with progress.shown(quiet=False) as report:
        report(WorkDone("reading", 2, 5, "sentences"))
        report(PretrainingPlan(steps=6, minutes=None, **COUNTS))
        report(StepDone(3, LOSSES, done=0.5))
        report(Evaluated(4, 0, {"masked_lm_accuracy": 0.5, "sentence_order_loss": 0.25}))
    out, err = terminal()
    assert out.splitlines() == [
        "1,234 parameters; 5,678 tokens; 9 documents, 1 more held out",
        "step 4  masked_lm_accuracy 0.5000  sentence_order_loss 0.2500",
    ]
    for shown in ("reading", "2/5 sentences", "masked words 4.500, order 0.700", "3/6 steps"):
        assert shown in err


def test_a_run_by_the_clock_counts_minutes(terminal):
    with progress.shown(quiet=False) as report:
        report(PretrainingPlan(steps=None, minutes=8.0, **COUNTS))
        report(StepDone(3, LOSSES, done=0.5))
    assert "4.0/8.0 min" in terminal()[1]


def test_quiet_leaves_the_bar_alone(terminal):
    with progress.shown(quiet=True) as report:
        report(FineTuningPlan(steps=7, warmup_steps=2, train_rows=9))
        report(EVALUATION)
    assert terminal()[0] == ""


def test_rows_and_their_rate_are_shown(terminal):
    with console.progress_rows(100) as advance:
        advance(1200, 40)
        advance(34, 50)
    _, err = terminal()
    assert "embedding" in err
    assert "1,234 rows" in err
    assert "50%" in err


def test_nothing_is_shown_without_a_terminal(capsys):
    with console.progress_rows(100) as advance, console.progress_count("x") as tick, console.progress_bytes() as more:
        advance(1, 1)
        tick(1, 2)
        more("reading", 1, 2)
    assert capsys.readouterr() == ("", "")
