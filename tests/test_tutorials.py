"""The tutorials: every file they show is written, every command run in order, every output compared with the page's."""

import doctest
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs/tutorials").glob("*.md")), ROOT / "docs/python.md", ROOT / "docs/quickstart.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", re.DOTALL)
HEREDOC = re.compile(r"cat > (\S+) <<'END'\n(.*)", re.DOTALL)


def steps(page):
    """(kind, what, shown output) in order: kind is file, folder, albert or python."""
    for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            source, _, shown = body.partition('"""\n')
            yield "python", source, shown.removesuffix('"""\n')
            continue
        if kind == "sh":  # what is done to the machine: installed, exported, fetched
            continue
        assert kind == "console", f"{page.name}: a block of {kind!r} is neither console nor python, so it is not run"
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            if found := HEREDOC.match(part):
                name, content = found.groups()
                content, end, rest = content.partition("END\n")
                assert (end, rest.strip()) == ("END\n", ""), f"{page.name}: {name} does not end at END"
                yield "file", (name, content), ""
                continue
            command, shown = COMMAND.fullmatch(part).groups()
            program, *arguments = shlex.split(command.replace("\\\n", " "))
            assert program in {"albert", "mkdir"}, f"{page.name}: the test cannot run {command}"
            yield ("albert", arguments, shown) if program == "albert" else ("folder", arguments[-1], "")


def same(shown, printed):
    """As doctest compares: ... stands for anything, runs of white space for one another."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown, printed, options)


def published(shared_data, folder):
    """Small models in the formats and under the names in which big ones were published, where a page expects these."""
    import torch
    import transformers

    samples = shared_data / "relatives"
    shutil.copytree(shared_data / "checkpoints/tf1-google", folder / "albert_base_v2")
    shutil.make_archive(str(folder / "albert_base_v2"), "gztar", folder, "albert_base_v2")
    shutil.copytree(samples / "fairseq-roberta", folder / "roberta.base")
    (folder / "electra_small").mkdir()
    for file in (samples / "tf1-electra").iterdir():
        shutil.copy(file, folder / "electra_small")
    shutil.make_archive(str(folder / "electra_small"), "zip", folder, "electra_small")
    for name in ("albert_base_v2", "electra_small"):
        shutil.rmtree(folder / name)
    shutil.copytree(samples / "spanbert", folder / "spanbert_hf_base")
    shutil.copytree(samples / "spanbert-with-head", folder / "spanbert_large_with_head")
    shutil.copy(samples / "spanbert/vocab.txt", folder / "spanbert_large_with_head")
    config = transformers.BertConfig.from_json_file(samples / "spanbert/config.json")
    torch.manual_seed(1)
    transformers.BertForQuestionAnswering(config).save_pretrained(folder / "spanbert-finetuned-squadv2")
    shutil.copy(samples / "spanbert/vocab.txt", folder / "spanbert-finetuned-squadv2")


# Pages that begin with published files.
NEEDS = {"families": published}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_step_of_a_tutorial_works(page, albert, tmp_path, monkeypatch, capsys, request):
    if page.stem in NEEDS:
        NEEDS[page.stem](request.getfixturevalue("shared_data"), tmp_path)
    monkeypatch.chdir(tmp_path)
    done, names = 0, {}
    for kind, what, shown in steps(page):
        if kind == "file":
            Path(what[0]).write_text(what[1], encoding="utf-8")
        elif kind == "folder":
            Path(what).mkdir(parents=True)
        elif kind == "python":
            capsys.readouterr()
            exec(compile(what, page.name, "exec"), names)
            printed = capsys.readouterr().out
            assert same(shown, printed), f"{page.name}:\n{what}\n{printed}"
            done += 1
        else:
            code, printed, err = albert(*what)
            assert code == 0, f"{page.name}: albert {shlex.join(what)}\n{err}"
            assert same(shown, printed), f"{page.name}: albert {shlex.join(what)}\n{printed}"
            done += 1
    assert done >= 5
