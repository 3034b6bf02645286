"""Sentence similarity of the built-in model beside its teacher, static piece vectors, random weights, a bag of words.

`python bench/builtin.py [--model DIR] [--teacher DIR]`: Spearman's correlation of cosines with people's judgements
on STS-B's development set, and on the part of its training set that is held out (`albert_cli/builtin/held_out.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from albert_cli.builtin.held_out import EVERY, Pairs, sts_dev, sts_part
from albert_cli.model.loading import load_model
from albert_cli.pretraining.distillation import unit
from albert_cli.pretraining.objective import sentence_vectors
from albert_cli.pretraining.teacher import Teacher
from albert_cli.registry import resolve
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.initialize import initialize

STSB = Path(__file__).parents[2] / "shared" / "data" / "glue" / "STS-B"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--teacher", type=Path)
    options = parser.parse_args()
    sets = {"dev": sts_dev(STSB), f"train, 1 row of {EVERY}": sts_part(STSB)}
    checkpoint = resolve.resolve(options.model).load()
    tokenizer = Tokenizer.from_files(checkpoint.tokenizer)
    texts = [text for pairs in sets.values() for text in pairs.texts]
    rows: dict[str, np.ndarray] = {"built-in model": albert(load_model(checkpoint), tokenizer, texts)}
    rows["its word embeddings alone"] = static(checkpoint, tokenizer, texts)
    rows["random weights"] = albert(
        load_model(initialize(checkpoint.config, checkpoint.tokenizer, seed=1)), tokenizer, texts
    )
    rows["bag of words"] = bag(tokenizer, texts)
    if options.teacher:
        teacher = Teacher(options.teacher, torch.device("cpu"))
        rows["teacher"] = teacher.vectors(texts)
        pieces = [tokenizer.segmenter.piece(n).replace("▁", " ").strip() for n in range(len(tokenizer))]
        vectors = teacher.vectors(pieces)
        rows["teacher's vectors of pieces"] = means(vectors - vectors.mean(0), tokenizer, texts)
    heads = [f"{name}: {len(pairs.scores):,} pairs" for name, pairs in sets.items()]
    print(f"{'STS-B, Spearman':32}" + "".join(f"{head:>34}" for head in heads))
    for name, vectors in rows.items():
        print(f"{name:32}" + "".join(f"{value:34.3f}" for value in correlations(vectors, list(sets.values()))))


def correlations(vectors: np.ndarray, sets: list[Pairs]) -> list[float]:
    """Of each set, whose vectors follow one another in the order of their texts."""
    ones, found, at = unit(vectors), [], 0
    for pairs in sets:
        firsts, seconds = ones[at : at + 2 * len(pairs.scores)].reshape(2, len(pairs.scores), -1)
        found.append(float(spearmanr((firsts * seconds).sum(1), pairs.scores).statistic))
        at += 2 * len(pairs.scores)
    return found


@torch.inference_mode()
def albert(model, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    batch = tokenizer.encode_batch(texts, max_length=128)
    found = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = np.argsort(batch.lengths)
    for rows in np.array_split(order, len(order) // 64):
        inputs = batch.padded(rows)
        vectors = sentence_vectors(
            model, torch.from_numpy(inputs["input_ids"]), torch.from_numpy(inputs["attention_mask"])
        )
        found[rows] = vectors.numpy()
    return found


def means(vectors: np.ndarray, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    return np.stack([vectors[ids].mean(0) if ids else np.zeros(vectors.shape[1]) for ids in tokenizer.ids(texts)])


def static(checkpoint, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    words = checkpoint.tensors["albert.embeddings.word_embeddings.weight"].read().astype(np.float32)
    return means(words, tokenizer, texts)


def bag(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    return np.stack([np.bincount(ids, minlength=len(tokenizer)) for ids in tokenizer.ids(texts)]).astype(np.float32)


if __name__ == "__main__":
    main()
