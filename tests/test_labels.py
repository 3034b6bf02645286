"""Labels: what is none is refused with its line, what is hardly meant is said, and what was taken is shown."""

import json
import re

import pytest
from tuning import reviews, write_csv, write_model

from albert_cli.errors import DataError
from albert_cli.training import session


def run(out, given, report=lambda record: None):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False}
    return session.one("csv", given, out, report=report, **choices)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels")
    write_model(root / "model")
    write_csv(root / "dev.csv", reviews(8, seed=9))
    return root


def options(world, train, **more):
    given = {"model": str(world / "model"), "train": str(train), "dev": str(world / "dev.csv"), "steps": 2}
    return given | {"batch_size": 4, "max_length": 16} | more


def write(path, labels):
    """A table of good rows, with these labels in lines 4 and 7 (CSV) or 3 and 6 (JSON lines, Parquet)."""
    rows = [[text, label] for text, label in reviews(12)]
    rows[2][1], rows[5][1] = labels
    if path.suffix == ".csv":
        return write_csv(path, rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        return path
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), path)
    return path


@pytest.mark.parametrize(
    ("suffix", "labels", "message"),
    [
        (".csv", ["", "  "], "2 rows without a label: line 4 is empty, line 7 is empty"),
        (".csv", ["NaN", "nan"], "2 rows without a label: line 4 has 'NaN', line 7 has 'nan'"),
        (".csv", ["None", "null"], "2 rows without a label: line 4 has 'None', line 7 has 'null'"),
        (".csv", ["['pos', 'neg']", "[]"], "line 4 has a list, ['pos', 'neg'], line 7 has a list, []"),
        (".jsonl", [None, ""], "2 rows without a label: line 3 is empty, line 6 is empty"),
        (".jsonl", [["pos"], {"a": 1}], 'line 3 has a list, ["pos"], line 6 has an object, {"a": 1}'),
        (".jsonl", [float("nan"), "pos"], "1 row without a label: line 3 has 'nan'"),
        (".jsonl", [True, 1], "true and false stand beside numbers: line"),
        (".jsonl", [0, 0.0], "0 and 0.0 are one number: line"),
        (".csv", ["1", "1.0"], "1 and 1.0 are one number: line"),
        (".parquet", [None, None], "2 rows without a label: line 3 is empty, line 6 is empty"),
    ],
)
def test_what_is_no_label_is_refused_with_its_lines(world, tmp_path, suffix, labels, message):
    path = write(tmp_path / f"train{suffix}", labels)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        run(tmp_path / "run", options(world, path))
    assert str(caught.value).startswith(f"{path}: ")
    assert not (tmp_path / "run").exists()


def test_rows_without_a_label_are_left_out_and_counted_where_that_is_asked(world, tmp_path, albert):
    path = write(tmp_path / "train.csv", ["", "None"])
    bad = write_csv(tmp_path / "dev.csv", [*reviews(8, seed=9), ("a plot", "perhaps")])
    code, out, err = albert(
        *("finetune", "csv", "--train", path, "--dev", bad, "--model", world / "model", "--steps", 2),
        *("--max-length", 16, "--out", tmp_path / "run", "--skip-bad"),
    )
    assert code == 0, err
    assert f"note: {path}: left out 2 rows without a usable label" in err
    assert f"note: {bad}: left out 1 rows without a usable label" in err
    assert "10 rows, 2 steps, 0 of warm-up, dropout 0.1; labels: neg 5, pos 5\n" in out
    code, out, err = albert("evaluate", tmp_path / "run", "--json")  # as the run was made
    assert code == 0, err
    code, _, err = albert("evaluate", tmp_path / "run", "--data", write(tmp_path / "x.csv", ["", "?"]), "--skip-bad")
    assert code == 0, err


def test_the_faults_of_all_files_are_told_together(world, tmp_path):
    rows = reviews(8)
    train = write_csv(tmp_path / "train.csv", [*rows, ("a plot", "x")])
    dev = write_csv(tmp_path / "dev.csv", [*rows, ("a plot", "1.0")])
    given = options(world, train, dev=str(dev), regression=True)
    with pytest.raises(DataError, match=r"train\.csv: 9 labels not a finite number.*; .*dev\.csv: 8 labels not a fin"):
        run(tmp_path / "run", given)


def test_labels_that_differ_in_case_alone_are_said(world, tmp_path):
    path = write(tmp_path / "train.csv", ["Pos", "New York"])
    rows = [*path.read_text().splitlines(), "a plot,new  york"]
    path.write_text("\n".join(rows) + "\n")
    seen = []
    run(tmp_path / "run", options(world, path), report=seen.append)
    notes = [record["text"] for record in seen if record["event"] == "note"]
    assert f"{path}: 'Pos' and 'pos' differ only in case or white space; they are 2 labels" in notes
    assert f"{path}: 'New York' and 'new  york' differ only in case or white space; they are 2 labels" in notes


def test_classes_may_be_called_none_or_na_or_have_leading_zeros(world, tmp_path):
    path = write(tmp_path / "train.csv", ["none", "[other]"])
    path.write_text(path.read_text() + "a plot,NA\na plot,01\na plot,1\n")
    seen = []
    run(tmp_path / "run", options(world, path), report=seen.append)
    plan = next(record for record in seen if record["event"] == "plan")
    assert plan["taken"] == "labels: 01 1, 1 1, NA 1, [other] 1, neg 5, none 1, pos 5"


def test_one_label_for_all_rows_is_said_at_the_end(world, tmp_path):
    seen = []
    run(tmp_path / "run", options(world, write_csv(tmp_path / "t.csv", reviews(12)), steps=1), report=seen.append)
    (note,) = (record["text"] for record in seen if record["event"] == "remark")
    assert re.fullmatch(r"dev: the best model gives all 8 rows the label '(pos|neg)'; it tells nothing apart", note)
    assert f"- {note}" in (tmp_path / "run" / "report.md").read_text()


def test_a_held_out_part_leaves_a_row_of_every_class_to_train_on(world, tmp_path):
    rows = [*reviews(40), ("a plot", "rare"), ("the plot", "scarce")]
    given = options(world, write_csv(tmp_path / "t.csv", rows))
    del given["dev"]
    for number in range(3):  # wherever the two stand
        write_csv(tmp_path / "t.csv", rows[number * 13 :] + rows[: number * 13])
        run(tmp_path / f"run{number}", given)


def test_one_row_cannot_be_held_out(world, tmp_path):
    given = options(world, write_csv(tmp_path / "t.csv", [("a plot", "1.5")]), regression=True)
    del given["dev"]
    with pytest.raises(DataError, match="has but one row to train on, so none can be held out; name a development set"):
        run(tmp_path / "run", given)


def test_a_misspelt_setting_is_put_right(albert, tmp_path):
    (tmp_path / "s.toml").write_text("vocab_sise = 3\n")
    code, _, err = albert("pretrain", "--settings", tmp_path / "s.toml", "--out", tmp_path / "r")
    assert (code, "vocab_sise: no such setting; did you mean 'vocab_size'?" in err) == (1, True)
    (tmp_path / "s.toml").write_text("epoch = 3\n")
    code, _, err = albert("finetune", "csv", "--config", tmp_path / "s.toml", "--out", tmp_path / "r")
    assert (code, "did you mean 'epochs'?" in err) == (1, True)
