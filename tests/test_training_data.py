"""Readers: the real GLUE files row by row, the other layouts, and one message for everything wrong with a file."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning import reviews, write_csv, write_glue

from albert_cli import tasks
from albert_cli.batching import batch_count, epoch_batches, evaluation_batches
from albert_cli.errors import DataError, TextError
from albert_cli.tables.table import read_table
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Sources
from albert_cli.training import labels
from converters.errors import AlbertError

COUNTS = {
    # MRPC's train.tsv holds 3,667 rows under its header here, one fewer than the set that Google counts.
    "cola": (8551, 1043),
    "mrpc": (3667, 408),
    "rte": (2490, 277),
    "stsb": (5749, 1500),
    "sst2": (67349, 872),
    "wnli": (635, 71),
    "qnli": (3863, 800),
}


def read(name, sources, split="train"):
    task = tasks.named(name)
    return task.read(sources, split)


@pytest.mark.parametrize("name", COUNTS)
def test_every_row_of_the_real_files_is_read(shared_data, name):
    task = tasks.named(name)
    for split, count in zip(("train", "dev"), COUNTS[name], strict=True):
        examples = read(name, Sources(data=shared_data / "glue"), split)
        path = shared_data / "glue" / task.layout.directory / f"{split}.tsv"
        raw = path.read_bytes().removesuffix(b"\n").split(b"\n")
        header = 0 if name == "cola" else 1
        assert len(examples) == count == len(raw) - header
        assert not examples.left_out
        if task.problem == "regression":
            values = labels.numeric_labels(examples, task.value_range)
            assert (values.min(), values.max()) == (0.0, 5.0)
        else:
            assert set(examples.labels) == set(task.labels)
        # The last row, cell by cell, against the file.
        last = raw[-1].decode().rstrip("\r").split("\t")
        assert examples.texts[-1] in last
        assert examples.pairs is None or examples.pairs[-1] in last
        assert examples.labels[-1] in last


def test_a_task_is_found_in_its_own_directory_too(shared_data):
    assert len(read("rte", Sources(data=shared_data / "glue" / "RTE"), "dev")) == 277
    assert tasks.named("SST-2") is tasks.named("sst2")


def test_every_glue_layout_with_its_test_files(tmp_path):
    glue = Sources(data=write_glue(tmp_path, rows=12, test_rows=5))
    for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"):
        task = tasks.named(name)
        for split in task.layout.splits:
            examples = task.read(glue, split)
            labelled = split.startswith(("train", "dev"))
            assert len(examples) == (12 if labelled else 5), (name, split)
            assert (examples.labels is not None) == labelled
            assert (examples.pairs is None) == (name in ("cola", "sst2"))
        assert task.read(glue, "test").ids == ["0", "1", "2", "3", "4"]


def test_the_hubs_parquet_files_and_their_numbered_labels(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path / "mnli"
    folder.mkdir()
    for split, numbers in (("train", [0, 1, 2]), ("validation_matched", [2, 0, 1]), ("test_matched", [-1, -1, -1])):
        columns = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": numbers, "idx": [0, 1, 2]}
        parquet.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet")
    examples = read("mnli", Sources(data=tmp_path))
    assert examples.labels == ["entailment", "neutral", "contradiction"]
    assert labels.class_numbers(examples, tasks.named("mnli").labels).tolist() == [1, 2, 0]
    assert read("mnli", Sources(data=tmp_path), "dev").labels == ["contradiction", "entailment", "neutral"]
    assert read("mnli", Sources(data=folder), "test").labels is None


def test_without_data_and_without_network_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"RTE could not be downloaded from nyu-mll/glue .*; pass --data with a dir"):
        read("rte", Sources())


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_your_own_rows_in_every_kind_of_table(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    rows = [("first, with a comma", "one"), ("zweiter “Text”", "two"), ("third", "one")]
    if suffix == ".csv":
        write_csv(path, rows, ("review", "kind"))
    elif suffix == ".tsv":
        lines = "".join(f"{text}\t{kind}\r\n" for text, kind in [("review", "kind"), *rows])
        path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"review": t, "kind": k}) + "\n\n" for t, k in rows), encoding="utf-8")
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"review": [t for t, _ in rows], "kind": [k for _, k in rows]}), path)
    examples = read("csv", Sources(files={"train": path}, text_column="review", label_column="kind"))
    assert list(zip(examples.texts, examples.labels, strict=True)) == rows
    assert labels.found_labels(examples) == ("one", "two")


def test_numbers_as_labels_are_sorted_by_value(tmp_path):
    path = write_csv(tmp_path / "rows.csv", [(f"t{n}", str(label)) for n, label in enumerate([10, 9, 2, 10, 9, 2])])
    assert labels.found_labels(read("csv", Sources(files={"train": path}))) == ("2", "9", "10")


def test_folders_of_reviews(tmp_path):
    for split, label, count in (("train", "pos", 3), ("train", "neg", 2), ("test", "pos", 1), ("test", "neg", 2)):
        folder = tmp_path / split / label
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}_7.txt").write_text(f"{label} film<br />number {number}", encoding="utf-8")
    (tmp_path / "train" / "unsup").mkdir()
    train = read("imdb", Sources(data=tmp_path))
    assert (len(train), labels.found_labels(train)) == (5, ("neg", "pos"))
    assert train.texts[0] == "neg film number 0"
    assert train.ids[-1] == "pos/2_7"
    assert len(read("imdb", Sources(data=tmp_path), "dev")) == 3  # the test folder stands in
    with pytest.raises(DataError, match="imdb needs --data"):
        read("imdb", Sources())


RTE = "index\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            RTE + "0\ta\tb\tentailment\n1\ta\tb\tentailmnt\n2\ta\tb\t\n",
            "train.tsv: 2 unknown labels: line 3 has 'entailmnt', line 4 has ''; known: entailment, not_entailment",
        ),
        (
            "index\tsentence1\tsentence_2\tlabel\n0\ta\tb\tentailment\n",
            (
                "train.tsv: the header has no column 'sentence2' for the second text; it has 'index', 'sentence1', "
                "'sentence_2', 'label'"
            ),
        ),
        (
            "index\tsentence1\tsentence2\n0\ta\tb\n",
            "train.tsv: the header has no column 'label' for the label; it has 'index', 'sentence1', 'sentence2'",
        ),
        (
            RTE + "0\ta\tb\tentailment\n1\ta\tentailment\n2\ta\tb\tc\tentailment\n",
            "train.tsv: 2 rows not of 4 columns (index, sentence1, sentence2, label): line 3 has 3, line 4 has 5",
        ),
        (RTE, "train.tsv: there is no text to read"),
    ],
)
def test_what_is_wrong_with_a_glue_file_is_reported_with_lines(tmp_path, content, message):
    (tmp_path / "train.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(AlbertError, match=re.escape(message)):
        labels.class_numbers(read("rte", Sources(data=tmp_path)), tasks.named("rte").labels)


def test_quotes_are_text_in_glue_and_blank_lines_and_marks_are_none(tmp_path):
    header = "\ufeffindex\tsentence1\tsentence2\tlabel\r\n\r\n"
    text = header + '0\t"a\tb" c"\tentailment\r\n\r\n1\tx\u2028y\t\tnot_entailment\r\n'
    (tmp_path / "train.tsv").write_bytes(text.encode())
    examples = read("rte", Sources(data=tmp_path))
    assert examples.texts == ['"a', "x\u2028y"]
    assert examples.pairs == ['b" c"', ""]
    assert examples.lines == [3, 5]


def test_cut_rows_of_qqp_are_left_out_and_counted(tmp_path):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    (tmp_path / "train.tsv").write_text(header + "1\t1\t2\ta\tb\t0\n2\t3\t4\tcut\n3\t5\t6\tc\td\t1\n", encoding="utf-8")
    examples = read("qqp", Sources(data=tmp_path))
    assert (len(examples), examples.lines) == (2, [2, 4])
    assert examples.left_out == {"not of 6 columns": [3]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'text,label\n"open,pos\nnever,neg\n',
            "broken quoting in the row that begins at line 2 (unexpected end of data)",
        ),
        ('text,label\n"a"b,pos\n', "broken quoting in the row that begins at line 2"),
        ("text,label\na,b,pos\nc\n", "2 rows not of 2 columns: line 2 has 3, line 3 has 1; a cell that holds ',' st"),
        ("text,label,text\na,pos,b\n", "several columns are called 'text'; rename all but one"),
        (
            "Text,label\na,pos\n",
            "it has 'Text', 'label'. --text-column names the one with the texts; did you mean 'Text'?",
        ),
        ("text,label\n", "there is no text to read"),
        (
            "review,label\na,pos\n",
            "the header has no column 'text'; it has 'review', 'label'. --text-column names the one with the texts",
        ),
        (
            "text,stars\na,pos\n",
            "no column 'label' for the label; it has 'text', 'stars'; --label-column names the one with the labels",
        ),
        (b"text,label\n\xff\xfe,pos\n", "line 2 is not UTF-8: byte 0xff at offset 11; convert it to UTF-8"),
        ("", "there is no text to read"),
        ("text,label\na,pos\nb,pos\n", "every row has the label 'pos'; a classifier needs at least two"),
        ("text,label\n" + "".join(f"a,{n}.5\n" for n in range(40)), "40 different labels in 40 rows"),
    ],
)
def test_what_is_wrong_with_a_csv_file(tmp_path, content, message):
    path = tmp_path / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AlbertError, match=re.escape(message)):
        labels.found_labels(read("csv", Sources(files={"train": path})))


def test_other_kinds_of_bad_tables(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a"}\n{oops\n', encoding="utf-8")
    with pytest.raises(TextError, match=r"line 2 is not JSON: .* at column 2"):
        read("csv", Sources(files={"train": path}))
    path.write_text("[1]\n", encoding="utf-8")
    with pytest.raises(TextError, match="line 1 holds a list, not an object of columns"):
        read("csv", Sources(files={"train": path}))
    other = tmp_path / "mine.xls"
    other.touch()
    with pytest.raises(
        TextError,
        match=r"files of the kind '\.xls' are not read; tables are \.txt, \.csv, \.tsv, .* gzip, zstd or xz too",
    ):
        read("csv", Sources(files={"train": other}))
    bad = tmp_path / "mine.parquet"
    bad.write_bytes(b"PAR1 and no more")
    with pytest.raises(TextError, match="not a Parquet file, or a damaged one"):
        read("csv", Sources(files={"train": bad}))
    with pytest.raises(DataError, match="no such file"):
        read("csv", Sources(files={"train": tmp_path / "none.csv"}))


def test_a_regressions_labels_are_numbers_in_range(tmp_path):
    path = write_csv(tmp_path / "rows.csv", [("a", "1.5"), ("b", "5.1"), ("c", "high"), ("d", "nan"), ("e", "-1")])
    examples = read("csv", Sources(files={"train": path}))
    message = "4 labels not a number from 0 to 5: line 3 has 5.1, line 4 has 'high', line 5 has 'nan', line 6 has -1"
    with pytest.raises(DataError, match=re.escape(message)):
        labels.numeric_labels(examples, (0.0, 5.0))
    with pytest.raises(DataError, match=re.escape("2 labels not a finite number: line 4 has 'high', line 5 has 'nan'")):
        labels.numeric_labels(examples, None)


def test_a_class_without_training_rows_is_refused():
    with pytest.raises(DataError, match=r"no training row has the label 'b' \(of a, b\).*raise --limit-train"):
        labels.check_classes(np.array([0, 0]), ("a", "b"), "train.tsv", "raise --limit-train")


def test_a_file_without_labels_can_only_be_predicted(tmp_path):
    write_glue(tmp_path)
    task = tasks.named("rte")
    path = tmp_path / "RTE" / "test.tsv"
    message = r"no column 'label' for the label.*can only be predicted: albert predict RUN --in FILE"
    with pytest.raises(DataError, match=message):
        task.layout.read_file(path, Sources())
    assert len(Examples.of(read_table(path), task.layout.columns, labelled=False)) == 6


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(DataError, match="'snli' is no task here; the tasks are choice, cola, csv, imdb, mnli, mrpc"):
        tasks.named("snli")


def test_recipes_are_googles():
    lines = {
        "sst2": (1256, 1e-5, 20935, 100, 32),
        "mnli": (1000, 3e-5, 10000, 100, 128),
        "cola": (320, 1e-5, 5336, 100, 16),
        "qnli": (1986, 1e-5, 33112, 200, 32),
        "qqp": (1000, 5e-5, 14000, 100, 128),
        "rte": (200, 3e-5, 800, 100, 32),
        "stsb": (214, 2e-5, 3598, 100, 16),
        "mrpc": (200, 2e-5, 800, 100, 32),
        "wnli": (250, 2e-5, 2000, 100, 16),  # table 14 of the paper
    }
    for name, line in lines.items():
        recipe = tasks.named(name).recipe
        found = (recipe.warmup_steps, recipe.learning_rate, recipe.steps, recipe.eval_every, recipe.batch_size)
        assert found == line
        assert recipe.max_length == 512
    assert tasks.named("mnli").labels == ("contradiction", "entailment", "neutral")


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=300),
    size=st.integers(1, 40),
    seed=st.integers(0, 5),
    smallest=st.sampled_from([1, 2]),
)
def test_batches_hold_every_row_once_and_follow_from_seed_and_epoch(lengths, size, seed, smallest):
    array = np.array(lengths)
    size = max(size, smallest)

    def make(epoch):
        return epoch_batches(len(array), size, seed=seed, epoch=epoch, lengths=array, smallest=smallest)

    batches = make(0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(array)))
    assert len(batches) == batch_count(len(array), size, smallest)
    assert min(map(len, batches)) >= min(smallest, len(array))
    assert max(map(len, batches)) < size + smallest
    assert all((a == b).all() for a, b in zip(batches, make(0), strict=True))
    rows = [row for batch in evaluation_batches(array, len(array), tokens=64) for row in batch.tolist()]
    assert sorted(rows) == list(range(len(array)))


def test_batches_of_like_length_have_hardly_any_padding():
    lengths = np.array([len(text.split()) for text, _ in reviews(2000)])
    grouped, mixed = (
        sum(len(batch) * lengths[batch].max() for batch in epoch_batches(2000, 32, seed=1, epoch=0, lengths=given))
        for given in (lengths, None)
    )
    assert grouped < 1.02 * lengths.sum()
    assert mixed > 1.5 * lengths.sum()
