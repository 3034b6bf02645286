"""Lists in cells and files of JSON: half of a UTF-16 pair, depth, NUL; and cells of any length in our own CSV."""

import json

import pytest

from albert_cli.errors import AlbertError, DataError
from albert_cli.main import _explain
from albert_cli.tables import nested
from albert_cli.tasks.layouts.conll import Conll
from albert_cli.tasks.layouts.squad import read_squad
from albert_cli.tasks.ner import TASK as NER
from albert_cli.tasks.task import Sources
from albert_cli.training.label_sets import labels_in
from albert_cli.training.problems import named
from albert_cli.training.report import _errors

HALF, CLEAN = "\ud800x", "\ufffdx"


def test_half_of_a_pair_is_replaced_wherever_it_stands(tmp_path):
    assert nested.parsed(json.dumps([HALF, {HALF: [HALF]}, "😀", 1])) == [CLEAN, {CLEAN: [CLEAN]}, "😀", 1]
    assert labels_in(json.dumps(["a", HALF])) == labels_in(r"['a', '\ud800x']") == ("a", CLEAN)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"tokens": ["a", HALF], "tags": ["O", f"B-{HALF}"]}) + "\n")
    found = Conll().read_file(rows, Sources())
    assert (found.words, found.tags) == ([["a", CLEAN]], [["O", f"B-{CLEAN}"]])
    squad = tmp_path / "squad.json"
    entry = {"id": HALF, "question": HALF, "answers": [{"text": HALF, "answer_start": 2}]}
    squad.write_text(json.dumps({"data": [{"paragraphs": [{"context": f"a {HALF}", "qas": [entry]}]}]}))
    (item,) = read_squad(squad).items
    assert (item.id, item.question, item.context, item.answers) == (CLEAN, CLEAN, f"a {CLEAN}", [(CLEAN, 2)])


@pytest.mark.parametrize("depth", [*range(300, 1000, 20), 10**5])
def test_what_is_nested_too_deep_is_refused_in_words(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    squad, rows = tmp_path / "squad.json", tmp_path / "rows.jsonl"
    squad.write_text(deep)
    with pytest.raises(AlbertError, match=r"nested too deep|not SQuAD's JSON"):
        read_squad(squad)
    rows.write_text(f'{{"tokens": {deep}, "tags": ["O"]}}\n')
    with pytest.raises(AlbertError, match=r"nested too deep|not a list|not a text|recursion depth"):
        Conll().read_file(rows, Sources())


def test_a_tag_with_a_nul_is_refused_with_its_line(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"tokens": ["a", "b"], "tags": ["O", "B-P\0"]}) + "\n")
    found = Conll().read_file(rows, Sources())
    with pytest.raises(DataError, match=r"1 tag not usable: 'B-P\\x00' \(line 1: holds a NUL character\)"):
        named("token_classification").check(found, (), NER)


def test_the_report_reads_predictions_of_any_length(tmp_path):
    path = tmp_path / "dev_predictions.csv"
    path.write_text(f"index,text,wrong\n0,{'a' * 200_000},1\n")
    assert "a" * 159 + "…" in _errors(path)


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_that_does_not_fit_into_memory_is_not_to_be_installed_again(kind, capsys):
    with pytest.raises(SystemExit):
        _explain(kind("libtorch_cpu.so: failed to map segment from shared object"))
    said = capsys.readouterr().err
    assert "too little memory to load a library" in said
    assert "pip" not in said
