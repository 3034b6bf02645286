"""What was typed reaches the commands as it was meant: texts, paths, `~` and `-`."""

import json
import os
import re

import pytest

from albert_cli.arguments import expanded
from converters.errors import AlbertError

CAFE = os.fsdecode(b"caf\xe9")


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["tokenize", CAFE],
        ["tokenize", "a", CAFE, "--pair"],
        ["tokenize", "--decode", CAFE],
        ["similarity", CAFE, "caf"],
        ["fill-mask", f"{CAFE} [MASK]"],
        ["fill-mask", "[MASK]", "--targets", f"a,{CAFE}"],
        ["sop", "a", CAFE],
        ["score", CAFE],
        ["predict", "run", CAFE],
        ["answer", "run", CAFE, "a text"],
        ["answer", "run", "a question", CAFE],
        ["embed", "--in", "x.csv", "--text-column", CAFE],
        ["embed", CAFE],
        ["search", CAFE, "--in", "x.csv"],
        ["search", "a", "--in", "x.csv", "--where", f"{CAFE}=1"],
        ["finetune", CAFE],
    ],
)
def test_a_text_that_is_not_utf8_is_refused_wherever_texts_are_taken(refused, arguments):
    offset = next(len(item[: item.index("\udce9")]) for item in arguments if "\udce9" in item)
    message = refused(*arguments)
    assert re.fullmatch(r".+ is not UTF-8: byte 0xe9 at offset \d+ of .*caf\\udce9.*; convert it to UTF-8", message)
    assert f"at offset {offset} " in message


def test_bytes_that_are_no_text_can_be_replaced_as_those_of_files_are(letter_model, albert):
    done = albert("tokenize", CAFE, "--errors", "replace", "--format", "ids", "--model", letter_model)
    assert done == albert("tokenize", "caf�", "--format", "ids", "--model", letter_model)


def test_paths_may_be_any_bytes(letter_model, albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _ = albert("convert", letter_model, f"{CAFE}.npz")
    assert code == 0
    assert os.fsdecode(b"caf\xe9.npz") in names(tmp_path)
    assert albert("diff", letter_model, f"{CAFE}.npz")[0] == 0
    (tmp_path / f"{CAFE}.txt").write_text("a [MASK]\n")
    for command in (["embed", "--out", f"{CAFE}.parquet", "--threads", "1"], ["fill-mask"], ["score"]):
        code, _, err = albert(*command, "--in", f"{CAFE}.txt", "--model", f"{CAFE}.npz")
        assert code == 0, err
    assert albert("similarity", "a", f"{CAFE}.parquet", "--model", f"{CAFE}.npz", "--top", "1")[0] == 0


def test_the_home_directory_is_meant_by_a_tilde_everywhere(letter_model, albert, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "in.txt").write_text("one\ntwo\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["convert", letter_model, "~/m.npz"],
        ["diff", letter_model, "~/m.npz"],
        ["init", "~/tiny", "--preset=tiny"],
        ["tokenize", "--in=~/in.txt", "--model=~/m.npz", "--out=~/t.txt"],
        ["embed", "--in=~/*.txt", "--model=~/m.npz", "--out=~/v.parquet", "--threads=1"],
        ["score", "--in=~/in.txt", "--model=~/m.npz", "--out=~/s.csv"],
        ["similarity", "--in=~/in.txt", "--model=~/m.npz", "--plot=~/p.svg"],
        ["similarity", "a", "~/v.parquet", "--top=1"],
        ["search", "--queries=~/in.txt", "--in=~/v.parquet", "--top=1"],
    ):
        code, _, err = albert(*arguments)
        assert code == 0, err
    assert names(tmp_path) == ["home"]
    assert {"m.npz", "tiny", "t.txt", "v.parquet", "s.csv", "p.svg"} <= set(names(home))


def test_a_text_keeps_its_tilde(letter_model, albert):
    _, out, _ = albert("tokenize", "~/a", "--model", letter_model, "--json")
    assert json.loads(out)[0]["text"] == "~/a"


def test_an_unknown_user_is_no_directory(refused, letter_model):
    message = "~nobody-of-this-name/x.npz: there is no user 'nobody-of-this-name' here"
    assert refused("convert", letter_model, "~nobody-of-this-name/x.npz").startswith(message)
    assert expanded("~backup") == "~backup" or expanded("~backup").startswith("/")
    assert expanded("a/~/b") == "a/~/b"
    with pytest.raises(AlbertError):
        expanded("~nobody-of-this-name/x")


@pytest.mark.parametrize("read", ["training", "pretraining"])
def test_the_home_directory_in_a_file_of_settings(tmp_path, monkeypatch, read):
    from albert_cli.pretraining.settings import read_settings
    from albert_cli.training.settings import read_toml

    monkeypatch.setenv("HOME", "/home/of")
    path = tmp_path / "s.toml"
    if read == "training":
        path.write_text('model = "~/m"\ntrain = "~/t.csv"\ntext_column = "~/c"\n')
        assert read_toml(path) == {"model": "/home/of/m", "train": "/home/of/t.csv", "text_column": "~/c"}
    else:
        path.write_text('corpus = ["~/a", "b"]\nteacher = "~/t"\n')
        assert read_settings(path) == {"corpus": ("/home/of/a", "b"), "teacher": "/home/of/t"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["convert", "built-in", "-"], "TARGET"),
        (["init", "-", "--preset", "tiny"], "TARGET"),
        (["embed", "--in", "x.txt", "--out", "-"], "--out"),
        (["finetune", "rte", "--out", "-"], "--out"),
        (["finetune", "glue", "--submission", "-"], "--submission"),
        (["pretrain", "--out", "-"], "--out"),
        (["evaluate", "run", "--curves", "-"], "--curves"),
        (["score", "a", "--plot", "-"], "--plot"),
        (["similarity", "a", "b", "--plot", "-"], "--plot"),
    ],
)
def test_a_dash_is_never_the_name_of_what_is_written(albert, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    code, out, err = albert(*arguments)
    assert (code, out) == (2, "")
    assert f"{what}: - is standard output" in " ".join(err.replace("│", " ").split())
    assert not names(tmp_path)


def test_tables_go_to_standard_output_as_json_lines(letter_model, albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, count in ((["score", "ab"], 2), (["sop", "a", "b"], 1), (["fill-mask", "a [MASK]", "--top", "3"], 3)):
        code, out, _ = albert(*command, "--model", letter_model, "--out", "-")
        assert code == 0
        assert [json.loads(line)["row"] for line in out.splitlines()] == [0] * count
    plain = albert("tokenize", "a b", "--model", letter_model)
    assert albert("tokenize", "a b", "--model", letter_model, "--out", "-") == plain
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "t.csv"], "tokens are written as .json, .jsonl, .html, .htm or .txt (table, ids, tokens), not .csv"),
        (["--out", "t.jsonl.gz"], "(table, ids, tokens), not .gz; name such a file"),
        (["--out", "t.json", "--format", "ids"], "t.json is to be json by its name, and ids by --format; change one"),
        (["--out", "t.html", "--json"], "t.html is to be html by its name, and json by --format; change one"),
    ],
)
def test_tokens_are_written_as_the_name_says(letter_model, albert, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = albert("tokenize", "a b", "--model", letter_model, *options)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
    for name, begin in (
        ("t.JSON", "["),
        ("t.jsonl", "{"),
        ("t.html", "<!DOCTYPE html>"),
        ("t.txt", "a b\n"),
        ("t", "a"),
    ):
        assert albert("tokenize", "a b", "--model", letter_model, "--out", name)[0] == 0
        assert (tmp_path / name).read_text().startswith(begin)


def test_a_name_with_a_dot_can_be_a_directory(letter_model, albert, tmp_path):
    for name in ("albert-v1.5", "model.v2", "run.2024-05-01"):
        assert albert("convert", letter_model, tmp_path / name)[0] == 0
        assert (tmp_path / name / "config.json").exists()
    (tmp_path / "there.csv").mkdir()
    assert albert("convert", letter_model, tmp_path / "there.csv")[0] == 0
    assert albert("convert", letter_model, tmp_path / "M.NPZ")[0] == 0
    assert (tmp_path / "M.NPZ").is_file()
    assert albert("diff", letter_model, tmp_path / "M.NPZ")[0] == 0


def test_a_file_that_is_taken_as_a_text_is_reported(letter_model, albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("a\n")
    for command in (["tokenize", "notes.txt"], ["score", "notes.txt"], ["sop", "notes.txt", "b"]):
        code, _, err = albert(*command, "--model", letter_model)
        assert code == 0
        assert "'notes.txt' is taken as a text, not as the file of that name; --in notes.txt reads it" in err


def test_similarity_refuses_to_compare_the_names_of_files(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_text("text\n")
        message = f"{name}: a file where a text is expected; --in {name} compares its lines"
        assert refused("similarity", name, "another") == message
    assert refused("similarity", "v.parquet", "w.parquet") == "v.parquet: no such file or directory"
    assert refused("similarity", "a text", "~/v.PARQUET").endswith("/v.PARQUET: no such file or directory")


def test_what_answers_a_question_is_read_whole(refused, tmp_path):
    (tmp_path / "c.txt").write_bytes(b"fine\nb\xe4d\n")
    message = f"{tmp_path / 'c.txt'}: line 2 is not UTF-8: byte 0xe4 at offset 6; convert it"
    assert refused("answer", "run", "who?", f"@{tmp_path / 'c.txt'}") == message


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["tokenize", "a", "--model", ""], "--model"),
        (["embed", "--in", ""], "--in"),
        (["embed", "--in", "x.txt", "--out", ""], "--out"),
        (["convert", "", "hf"], "SOURCE"),
        (["convert", "built-in", ""], "TARGET"),
        (["finetune", "csv", "--train", ""], "--train"),
        (["pretrain", "--corpus", "", "--steps", "1"], "--corpus"),
    ],
)
def test_an_empty_value_is_refused_where_nothing_can_be_meant_by_it(albert, tmp_path, monkeypatch, arguments, name):
    monkeypatch.chdir(tmp_path)
    code, out, err = albert(*arguments)
    flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert (code, out, names(tmp_path)) == (2, "", [])
    assert name in flat
    assert "it is empty; is a variable of the shell not set?" in flat


def test_an_empty_text_is_a_text(albert):
    assert albert("tokenize", "", "--format", "ids")[:2] == (0, "2 3\n")


@pytest.mark.parametrize(
    "arguments",
    [["pretrain", "--corpus", "-", "--steps", "1"], ["finetune", "csv", "--train", "-"], ["inspect", "-"]],
)
def test_standard_input_is_refused_where_it_is_not_read(albert, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = albert(*arguments)
    flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert code == 2
    assert "- is standard input, which this is not read from; name a file" in flat


def test_a_text_that_begins_with_a_hyphen_is_advised(albert):
    code, _, err = albert("tokenize", "-5 degrees")
    flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert code == 2
    assert "a text that begins so comes after --: albert tokenize" in flat
    assert albert("tokenize", "--format", "tokens", "--", "-5 degrees")[0] == 0


def test_earlier_names_of_options_are_still_read(letter_model, albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("text,other\na,b\n")
    (tmp_path / "c.json").write_text(json.dumps(json.loads((letter_model / "config.json").read_text())))
    for now, earlier in (
        (["sop", "--in", "pairs.csv", "--text-pair-column", "other"], ["--pair-column", "other"]),
        (["tokenize", "A b", "--uncased"], ["--lower-case"]),
        (["init", "new", "--force", "--json", "--model-config", "c.json"], ["--config", "c.json"]),
        (["init", "new", "--force", "--json", "--model-config=c.json"], ["--config=c.json"]),
    ):
        model = [] if now[0] == "init" else ["--model", letter_model]
        done = albert(*now, *model)
        assert done[0] == 0
        kept = now[: -len(earlier)]
        assert albert(*kept, *earlier, *model) == done
        page = albert(now[0], "--help")[1]
        assert f"{earlier[0].partition('=')[0]} " not in page
        assert now[len(kept)].partition("=")[0] in page


def test_an_earlier_name_that_means_something_else_elsewhere_is_noticed(albert, tmp_path):
    given = ["pretrain", "--corpus", tmp_path / "none", "--steps", 1, "--out", tmp_path / "run"]
    gone = f"albert: {tmp_path / 'none'}: no such file or directory"
    for words in (["--batch-tokens", 512], ["--batch-tokens=512"]):
        code, _, err = albert(*given, *words)
        notice = "albert: --batch-tokens of albert pretrain is called --tokens-per-update now"
        assert (code, err.splitlines()) == (1, [notice, gone])
    assert albert(*given, "--tokens-per-update", 512)[2].splitlines() == [gone]


def test_a_models_config_given_as_settings_of_pretrain_is_noticed(letter_model, albert, tmp_path):
    given = ["pretrain", "--out", tmp_path / "run"]
    (tmp_path / "s.toml").write_text('corpus = ["nowhere"]\nsteps = 1\n')
    (tmp_path / "c.txt").write_text("\n " + (letter_model / "config.json").read_text())
    gone = "albert: nowhere: no such file or directory"
    for config in (letter_model / "config.json", tmp_path / "c.txt"):
        for settings in (["--settings", tmp_path / "s.toml"], ["--corpus", "nowhere", "--steps", 1]):
            code, _, err = albert(*given, *settings, "--config", config)
            notice = "taken as the model's config; that is --model-config now, and --config is for settings"
            assert (code, err.splitlines()) == (1, [f"albert: {config}: {notice}", gone])
    for words in (["--config", tmp_path / "s.toml"], ["--settings", tmp_path / "s.toml"]):
        assert albert(*given, *words, "--model-config", tmp_path / "c.txt")[2].splitlines() == [gone]
    code, _, err = albert(*given, "--config", tmp_path / "s.toml", "--settings", tmp_path / "s.toml")
    assert (code, "--settings is the earlier name of --config; give one" in " ".join(err.split())) == (2, True)
    assert "--settings" not in albert("pretrain", "--help")[1]
