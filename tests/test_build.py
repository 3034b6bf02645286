"""`make model`: training texts without held-out ones, stages that resume, a card of what was done."""

import json

import making
import pytest

from albert_cli.builtin import build
from albert_cli.registry import builtin
from albert_cli.runs.events import Evaluated
from converters import convert

pytestmark = pytest.mark.usefixtures("undrawn")
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank"]
SHAPE = """
[model_config]
embedding_size = 16
hidden_size = 24
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
"""
STAGE = """
steps = 4
eval_every = 2
tokens_per_update = 128
max_length = 32
hold_out = 5
eval_sequences = 10
teacher_sentences = 30
teacher_batch = 8
seed = {seed}
unordered = ["words"]
"""


def story(number):
    """A document of ordered sentences."""
    lines = [f"First {NAMES[number % 6]} sat down at {number} o'clock. Then {NAMES[number % 5]} closed the window."]
    return "\n".join([*lines, f"Last {NAMES[number % 4]} opened door number {number}. It was {number} years ago."])


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A corpus, STS-B, a teacher and two stages, all tiny; the built-in model is in `model`."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    held = "He sat down. Pray, how old are you? She laughed, and a man is carving a spoon."
    (corpus / "stories.txt").write_text("\n\n".join([*map(story, range(40)), held]) + "\n")
    (corpus / "words.txt").write_text("".join(f"{name.lower()}: a person of no age.\n" for name in NAMES))
    (tmp_path / "sts").mkdir()
    head = "genre\tsentence1\tsentence2\tscore\n"
    (tmp_path / "sts/dev.tsv").write_text(f"{head}x\tA man is carving a spoon.\tLast Anna opened door number 4.\t4.0\n")
    (tmp_path / "sts/train.tsv").write_text(head + "".join(f"x\tThe row {n}.\tIs no {n}.\t1.0\n" for n in range(8)))
    (tmp_path / "teacher").mkdir()
    making.teacher(tmp_path / "teacher")
    for number, more in enumerate(("vocab_size = 90\n" + STAGE + SHAPE, STAGE)):
        (tmp_path / f"stage_{number}.toml").write_text(more.format(seed=42 + number))
    monkeypatch.setattr(build, "STAGES", sorted(tmp_path.glob("stage_*.toml")))
    plain = (build.Plain("plain.txt", 60, 42, 1), build.Plain("further.txt", 50, 43, 2))
    monkeypatch.setattr(build, "PLAIN", plain)
    for module in (build, builtin):
        monkeypatch.setattr(module, "built_in", lambda: tmp_path / "model")
    return tmp_path


def make(world, work, *more):
    paths = {"corpus": world / "corpus", "sts": world / "sts", "teacher": world / "teacher", "work": world / work}
    build.main([*(text for name, path in paths.items() for text in (f"--{name}", str(path))), *more])
    return json.loads((world / "model/card.json").read_text())


class Killed(Exception):
    pass


def test_a_killed_build_goes_on_to_the_same_model(world, monkeypatch, albert):
    whole = make(world, "whole")
    texts = (world / "whole/texts/stories.txt").read_text()
    assert "He sat down.\n" in texts
    assert "how old are you" not in texts
    assert "spoon" not in texts
    assert "door number 4." not in texts
    assert "door number 5." in texts
    assert whole["texts"]["removed"]["stories"] == {"same": 1, "near": 1, "quotes": 1}
    assert whole["texts"]["removed"]["words"] == {"same": 0, "near": 0, "quotes": 0}
    lists = whole["texts"]["lists"]
    assert [lists[name] for name in ("six sentences", "STS-B dev", "STS-B test", "STS-B train, part")] == [6, 2, 0, 4]
    assert whole["seeds"] == [42, 43]
    assert whole["steps"] == 8
    assert all(stage["minutes"] >= 0 and stage["hashes"]["corpus"] for stage in whole["stages"])

    real, cleaned = build.pretrain, build.cleaned

    def killed_in(stage, step):
        """Kill the build when that step of that stage was evaluated."""

        def run(settings, out, *, resume, report):
            def listen(event):
                if isinstance(event, Evaluated) and (out.name, event.step) == (stage, step):
                    raise Killed
                report(event)

            return real(settings, out, resume=resume, report=listen)

        monkeypatch.setattr(build, "pretrain", run)
        with pytest.raises(Killed):
            make(world, "cut")

    def half(lines, *more):
        yield next(cleaned(lines, *more))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(build, "cleaned", half)
        with pytest.raises(Killed):
            make(world, "cut")
    killed_in("stage_0", 4)
    killed_in("stage_1", 2)
    killed_in("stage_1", 4)
    monkeypatch.setattr(build, "pretrain", real)
    again = make(world, "cut")
    same = ("weights_sha256", "held_out", "hashes", "texts", "six_sentences", "steps", "tokens_seen")
    assert {name: again[name] for name in same} == {name: whole[name] for name in same}


def test_further_stages_begin_with_the_published_model(world, monkeypatch, tmp_path):
    both = build.STAGES
    monkeypatch.setattr(build, "STAGES", both[:1])
    first = make(world, "first")
    monkeypatch.setattr(build, "STAGES", both)
    begun, real = [], build.pretrain

    def run(settings, out, *, resume, report):
        begun.append((out.name, settings.init, resume))
        return real(settings, out, resume=resume, report=report)

    monkeypatch.setattr(build, "pretrain", run)
    second = make(world, "second", "--further")
    assert begun == [("stage_1", str(tmp_path / "model"), False)]
    assert second["stages"][0] == first["stages"][0]
    assert (second["seeds"], second["steps"]) == ([42, 43], 8)
    assert second["weights_sha256"] != first["weights_sha256"]
    assert make(world, "second", "--further", "--publish-only") == second


def test_without_a_head_worth_having_sop_names_a_full_size_model(world, monkeypatch, albert):
    monkeypatch.setattr(build, "ORDER_WORTH", 0.0)
    card = make(world, "work")
    assert "sop" in convert.load(world / "model").components
    page = (world / "model/README.md").read_text()
    assert "Masked-word and sentence-order heads" in page
    assert "Sentence order: `sentence_order_accuracy`" in page
    monkeypatch.setattr(build, "ORDER_WORTH", 1.01)
    make(world, "work")  # publishes the finished runs again
    assert convert.load(world / "model").components[-2:] == ["pooler", "mlm"]
    page = (world / "model/README.md").read_text()
    assert "A masked-word head; sentence vectors" in page
    assert "- Sentence order: no head for it." in page
    removed = sum(sum(found.values()) for name, found in card["texts"]["removed"].items() if not name.endswith(".txt"))
    assert f"That was {removed} sentences of the corpus" in " ".join(page.split())
    code, out, err = albert("sop", "He sat down.", "She laughed.", "--model", "built-in")
    right, lengths = card["held_out"]["sentence_order_accuracy"], card["sentence_order_by_length"]
    assert (code, out) == (1, "")
    assert err == (
        "albert: built-in: has no sentence-order head (SOP), so its weights would be random (in training it judged "
        f"{right:.0%} of held-out pairs rightly, and the lengths of the texts alone give {lengths:.0%}: sentence order "
        "takes a full-size model, which has read thousands of times as much text); models on the Hugging Face Hub "
        "leave it out; convert Google's checkpoint, which has it: albert convert albert_base_v2/ hf/, then "
        "--model hf/\n"
    )


def test_a_build_of_other_texts_is_not_gone_on_with(world):
    build.write_texts(world / "corpus", world / "sts", world / "work")
    before = (world / "work/removed.json").read_text()
    build.write_texts(world / "corpus", world / "sts", world / "work")
    assert (world / "work/removed.json").read_text() == before
    with (world / "corpus/words.txt").open("a") as file:
        file.write("more: text.\n")
    with pytest.raises(build.RunError, match="a build of another corpus or STS-B is there; remove it, or name another"):
        build.write_texts(world / "corpus", world / "sts", world / "work")
