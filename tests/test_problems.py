"""Kinds of problem and the tasks that declare them: each is found by its file, and all parts agree on its name."""

import pytest
from tuning import write_model, write_squad

from albert_cli import tasks
from albert_cli.training import problems
from albert_cli.training.run_directory import OURS


@pytest.mark.parametrize("name", problems.names())
def test_a_kind_of_problem_is_called_as_its_file(name):
    problem = problems.named(name)
    assert problem.name == name
    assert all(problems.named(former) is problem for former in problem.former_names)
    assert problem.command in problem.advice
    assert not problem.picture or OURS.fullmatch(problem.picture)  # so that --force removes it


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_declares_a_kind_of_problem_and_metrics_that_it_measures(name):
    task = tasks.named(name)
    for item in filter(None, (task, task.regression, task.multi_label)):
        assert item.problem in problems.names()
        assert not problems.named(item.problem).not_measured
        assert item.selection_metric in item.metrics


def test_only_your_own_rows_may_be_of_another_kind_instead(refused, tmp_path):
    csv, squad = tasks.named("csv"), tasks.named("squad")
    assert csv.posed_as("regression").metrics == ("pearson", "spearman", "rmse")
    assert csv.posed_as("multi_label").metrics == ("micro_f1", "macro_f1", "subset_accuracy")
    assert csv.posed_as("question_answering") is csv
    assert squad.posed_as("regression") is squad
    write_squad(tmp_path / "train.json", count=4)
    (tmp_path / "s.toml").write_text("regression = true\n")
    words = ("--model", write_model(tmp_path / "m"), "--data", tmp_path, "--out", tmp_path / "run")
    message = "--regression is for csv; squad is a question answering task"
    assert refused("finetune", "squad", "--config", tmp_path / "s.toml", *words, "--max-length", 64) == message
