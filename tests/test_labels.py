"""Labels: what is none is refused with its line, what is hardly meant is said, and what was taken is shown."""

import json
import re

import pytest
from tuning import reviews, write_csv, write_model

from albert_cli.errors import DataError, TextError
from albert_cli.runs.events import FineTuningPlan, Note, Remark, silent
from albert_cli.training import session

pytestmark = pytest.mark.usefixtures("undrawn")


def run(out, given, report=silent):
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
        (".jsonl", ["p\0", "pos"], r"1 row without a label: line 3 has 'p\x00', which holds a NUL character"),
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
    assert f"note: {path}: 2 rows left out: lines 4, 7 without a usable label\n" in err
    assert f"note: {bad}: 1 row left out: line 10 without a usable label\n" in err
    assert "10 rows, 2 steps, 0 of warm-up, dropout 0.1; labels: neg 5, pos 5; 0 of 8 dev rows in train, too\n" in out
    code, out, err = albert("evaluate", tmp_path / "run", "--json")  # as the run was made
    assert code == 0, err
    code, _, err = albert("evaluate", tmp_path / "run", "--data", write(tmp_path / "x.csv", ["", "?"]), "--skip-bad")
    assert code == 0, err
    assert f"{tmp_path / 'x.csv'}: 2 rows left out: lines 4, 7 without a usable label\n" in err


BAD = {
    ".csv": "a plot,film,pos\na plot\n",
    ".tsv": "a plot\tfilm\tpos\na plot\n",
    ".jsonl": '{"text": "a plot", "label": "pos"\n["a plot", "pos"]\n' + "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("suffix", BAD)
def test_rows_of_another_width_and_lines_that_are_no_json_are_left_out_where_that_is_asked(
    world, tmp_path, suffix, albert, refused
):
    rows = [("text", "label"), *reviews(10), ("a plot", "")]
    separator = {".csv": ",", ".tsv": "\t"}.get(suffix)
    lines = [separator.join(row) if separator else json.dumps({"text": row[0], "label": row[1]}) for row in rows]
    path = tmp_path / f"data{suffix}"
    path.write_text("\n".join(lines[separator is None :]) + "\n" + BAD[suffix])
    words = ("finetune", "csv", "--train", path, "--dev", path, "--model", world / "model", "--steps", 1)
    words = (*words, "--max-length", 16, "--out", tmp_path / "run")
    message = refused(*words)
    if separator:
        assert "2 rows not of 2 columns" in message
        assert "line 13 has 3, line 14 has 1" in message
        wanted = "3 rows left out: lines 13, 14 not of 2 columns; line 12 without a usable label"
    else:
        assert f"{path}: line 12 is not JSON: Expecting ',' delimiter at column 34; line 13 holds a list" in message
        assert "line 14 is not JSON: " in message
        wanted = "4 rows left out: lines 12, 13, 14 that are no JSON objects; line 11 without a usable label"
    assert message.endswith("--skip-bad leaves such rows out")
    code, out, err = albert(*words, "--skip-bad")
    assert code == 0, err
    assert err.count(wanted) == 1
    assert "10 rows, 1 steps" in out
    code, _, err = albert("evaluate", tmp_path / "run", "--data", path, "--skip-bad")
    assert (code, err.count(f"{path}: {wanted}\n")) == (0, 1)
    message = refused("predict", tmp_path / "run", "--in", path)  # a prediction for every row, or none
    assert ("2 rows not of 2 columns" in message) == (separator is not None)
    assert "--skip-bad" not in message


def test_what_is_no_table_at_all_is_refused_though_bad_rows_may_be_left_out(world, tmp_path):
    (tmp_path / "a.json").write_text('[\n{"text": "a", "label": "b"},\n{"text": "c", "label": "d"}\n')
    with pytest.raises(TextError, match=r"a\.json: line 1 is not JSON"):
        run(tmp_path / "run", options(world, tmp_path / "a.json", skip_bad=True))
    (tmp_path / "a.csv").write_text("text,label\na\nb\n")
    with pytest.raises(DataError, match=r"2 rows left out: lines 2, 3 not of 2 columns; no row is left"):
        run(tmp_path / "run", options(world, tmp_path / "a.csv", skip_bad=True))


def test_a_stream_is_no_data_of_a_run(world, tmp_path, refused):
    words = ("finetune", "csv", "--model", world / "model", "--out", tmp_path / "run")
    assert refused(*words, "--train", "/dev/fd/63") == (
        "train is /dev/fd/63, a stream, but a run reads its data again (--resume, evaluate); name a file"
    )
    run(tmp_path / "run", options(world, write_csv(tmp_path / "t.csv", reviews(8)), steps=1))
    assert refused("evaluate", tmp_path / "run", "--data", "/dev/fd/63") == (
        "/dev/fd/63: labelled data is read from files, not from a stream; write it to a file first"
    )
    assert "no such directory" in refused(*words[:4], "--data", tmp_path / "no", "--out", tmp_path / "new")
    for task in ("csv", "sst2", "squad"):
        assert refused("finetune", task, *words[2:4], "--data", tmp_path / "t.csv", "--out", tmp_path / "new") == (
            f"{tmp_path / 't.csv'}: a file, but --data names a directory; name files with --train and --dev"
        )


def test_the_faults_of_all_files_are_reported_together(world, tmp_path):
    rows = reviews(8)
    train = write_csv(tmp_path / "train.csv", [*rows, ("a plot", "x")])
    dev = write_csv(tmp_path / "dev.csv", [*rows, ("a plot", "1.0")])
    given = options(world, train, dev=str(dev), regression=True)
    with pytest.raises(DataError, match=r"train\.csv: 9 labels not a finite number.*; .*dev\.csv: 8 labels not a fin"):
        run(tmp_path / "run", given)


def test_labels_that_differ_in_case_alone_are_reported(world, tmp_path):
    path = write(tmp_path / "train.csv", ["Pos", "New York"])
    rows = [*path.read_text().splitlines(), "a plot,new  york"]
    path.write_text("\n".join(rows) + "\n")
    seen = []
    run(tmp_path / "run", options(world, path), report=seen.append)
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert f"{path}: 'Pos' and 'pos' differ only in case or white space; they are 2 labels" in notes
    assert f"{path}: 'New York' and 'new  york' differ only in case or white space; they are 2 labels" in notes


def test_classes_may_be_called_none_or_na_or_have_leading_zeros(world, tmp_path):
    path = write(tmp_path / "train.csv", ["none", "[other]"])
    path.write_text(path.read_text() + "a plot,NA\na plot,01\na plot,1\n")
    seen = []
    run(tmp_path / "run", options(world, path), report=seen.append)
    plan = next(event for event in seen if isinstance(event, FineTuningPlan))
    assert plan.taken == "labels: 01 1, 1 1, NA 1, [other] 1, neg 5, none 1, pos 5; 0 of 8 dev rows in train, too"
    notes = [event.text for event in seen if isinstance(event, Note)]
    taken = (
        "taken as a class: 'NA' (1 row), 'none' (1 row); where that stands for a missing label, leave the cell empty"
    )
    assert f"{path}: {taken}" in notes


def test_one_label_for_all_rows_is_reported_at_the_end(world, tmp_path):
    seen = []
    run(tmp_path / "run", options(world, write_csv(tmp_path / "t.csv", reviews(12)), steps=1), report=seen.append)
    (note,) = (event.text for event in seen if isinstance(event, Remark))
    assert re.fullmatch(r"dev: the best model gives all 8 rows the label '(pos|neg)'; it distinguishes nothing", note)
    assert f"- {note}" in (tmp_path / "run" / "report.md").read_text()


def test_a_held_out_part_leaves_a_row_of_every_class_to_train_on(world, tmp_path):
    rows = [*reviews(40), ("a plot", "rare"), ("the plot", "scarce")]
    given = options(world, write_csv(tmp_path / "t.csv", rows))
    del given["dev"]
    for number in range(3):  # wherever the two stand
        write_csv(tmp_path / "t.csv", rows[number * 13 :] + rows[: number * 13])
        seen = []
        run(tmp_path / f"run{number}", given, report=seen.append)
        plan = next(event for event in seen if isinstance(event, FineTuningPlan))
        assert "rare 1" in plan.taken
        assert "scarce 1" in plan.taken


def test_one_row_cannot_be_held_out(world, tmp_path):
    given = options(world, write_csv(tmp_path / "t.csv", [("a plot", "1.5")]), regression=True)
    del given["dev"]
    with pytest.raises(DataError, match="has but one row to train on, so none can be held out; name a development set"):
        run(tmp_path / "run", given)


def test_a_misspelt_setting_is_put_right(albert, tmp_path):
    (tmp_path / "s.toml").write_text("vocab_sise = 3\n")
    code, _, err = albert("pretrain", "--config", tmp_path / "s.toml", "--out", tmp_path / "r")
    assert code == 1
    assert re.search(r"vocab_sise: no such setting; the settings are .*; did you mean 'vocab_size'[?]$", err.strip())
    (tmp_path / "s.toml").write_text("epoch = 3\n")
    code, _, err = albert("finetune", "csv", "--config", tmp_path / "s.toml", "--out", tmp_path / "r")
    assert (code, "did you mean 'epochs'?" in err) == (1, True)
