"""The object that mteb measures: on tasks made here, without network, to the figures of albert evaluate."""

import json

import numpy as np
import pytest

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.mteb_model import MtebModel

PAIRS = [("a cat", "a cat.", 5.0), ("a cat", "the dog", 1.5), ("who?", "42", 0.0), ("b", "bb", 3.25)]
TEXTS = ["a cat", "the quick brown fox", ""]


@pytest.fixture
def model(letter_model):
    return MtebModel.from_pretrained(str(letter_model), threads=1)


def test_it_takes_lists_of_texts_and_batches_of_a_loader(model, letter_model):
    expected = Embedder.from_pretrained(str(letter_model), threads=1).embed(TEXTS)
    assert np.array_equal(model.encode(TEXTS), expected)
    batches = [{"text": TEXTS[:2], "id": [1, 2]}, {"text": TEXTS[2:]}]
    assert np.array_equal(model.encode(batches, task_metadata=None, hf_split="test", hf_subset="default"), expected)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(model.similarity(expected, expected) - unit @ unit.T).max() < 1e-6
    assert np.abs(model.similarity_pairwise(expected, expected) - 1).max() < 1e-6


def test_prompts_of_queries_and_documents(letter_model, albert, tmp_path):
    assert albert("convert", letter_model, tmp_path / "st", "--to", "sentence-transformers")[0] == 0
    file = tmp_path / "st/config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompts": {"query": "find: ", "document": "text: "}}))
    model = MtebModel.from_pretrained(str(tmp_path / "st"), threads=1)
    plain = model.encode(["a cat"])
    for kind, before in (("query", "find: "), ("document", "text: "), ("passage", "text: ")):
        assert np.abs(model.encode(["a cat"], prompt_type=kind) - model.encode([f"{before}a cat"])).max() < 1e-6
        assert np.abs(model.encode(["a cat"], prompt_type=kind) - plain).max() > 1e-3


@pytest.mark.filterwarnings("ignore")
def test_mteb_measures_what_albert_does(model, albert, tmp_path, letter_model):
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install mteb")
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.models_protocols import EncoderProtocol

    class Letters(AbsTaskSTS):
        metadata = TaskMetadata(
            name="Letters", type="STS", main_score="cosine_spearman", description="pairs of letters", reference=None,
            dataset={"path": "none", "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"], category="t2t",
            modalities=["text"], date=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
            dialect=None, sample_creation=None, bibtex_citation="",
        )  # fmt: skip
        min_score, max_score = 0, 5

        def load_data(self, **others):
            columns = dict(zip(("sentence1", "sentence2", "score"), map(list, zip(*PAIRS, strict=True)), strict=True))
            self.dataset, self.data_loaded = DatasetDict({"test": Dataset.from_dict(columns)}), True

    assert isinstance(model, EncoderProtocol)
    result = mteb.evaluate(model, Letters(), cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    lines = "".join(f"{a}\t{b}\t{c}\n" for a, b, c in PAIRS)
    (tmp_path / "p.tsv").write_text(f"sentence1\tsentence2\tscore\n{lines}")
    words = ("evaluate", "--sts", tmp_path / "p.tsv", "--model", letter_model, "--json", "--threads", 1)
    found = json.loads(albert(*words)[1])
    assert scores["cosine_spearman"] == pytest.approx(found["spearman"], abs=1e-6)
    assert scores["cosine_pearson"] == pytest.approx(found["pearson"], abs=1e-5)
    assert result.model_name == "albert_cli/hf"
