"""Batches by length: every row once, none too large, in the order that is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_cli import batching
from albert_cli.tokenization.batch import TokenBatch

lengths = st.lists(st.integers(0, 40), max_size=60).map(lambda found: np.array(found, np.int64))
ids = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=8)


@given(lengths=lengths, tokens=st.integers(0, 120), longest_first=st.booleans())
def test_batches_by_length_are_as_large_as_they_may_be(lengths, tokens, longest_first):
    order = np.argsort(-lengths, kind="stable") if longest_first else None
    batches = batching.by_length(lengths, tokens, order=order)
    rows = [row for batch in batches for row in batch.tolist()]
    assert rows == sorted(range(len(lengths)), key=lambda row: -lengths[row] if longest_first else lengths[row])
    for number, batch in enumerate(batches):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens
        if number + 1 < len(batches):
            more = [*batch, batches[number + 1][0]]
            assert len(more) * lengths[more].max() > tokens


@given(lengths=lengths.filter(len), pool=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_pooled_order_is_sorted_within_pools_of_a_random_order(lengths, pool, seed):
    order = batching.pooled_order(np.random.default_rng(seed), lengths, pool)
    random = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    for start in range(0, len(lengths), pool):
        part = random[start : start + pool]
        assert order[start : start + pool].tolist() == sorted(part, key=lambda row: lengths[row])


@given(counts=lengths, seed=st.integers(0, 9))
def test_ranges_and_starts(counts, seed):
    first = np.random.default_rng(seed).integers(0, 100, len(counts))
    expected = [place for start, count in zip(first, counts, strict=True) for place in range(start, start + count)]
    assert batching.ranges(first, counts).tolist() == expected
    assert batching.starts(counts).tolist() == [counts[:row].sum() for row in range(len(counts) + 1)]


@given(rows=ids, data=st.data())
def test_a_token_batch_is_its_rows(rows, data):
    types = [[number % 2 for number in range(len(row))] for row in rows]
    batch = TokenBatch.of_rows(rows, types, pad_id=1)
    assert [batch[row].tolist() for row in range(len(batch))] == rows
    assert TokenBatch.of_rows(rows).token_type_ids.tolist() == [0] * sum(map(len, rows))
    order = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    taken = batch.take(order)
    assert [taken[row].tolist() for row in range(len(taken))] == [rows[row] for row in order]
    padded, some = batch.padded(order), taken.padded()
    assert all(np.array_equal(padded[name], some[name]) for name in padded)
    assert batch.ids[batch.places(order)].tolist() == taken.ids.tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("tokens", [1, 64, 1000, 10**6])
def test_even_chunks_have_all_rows_once_and_about_the_same_number_of_tokens(threads, tokens):
    lengths = np.random.default_rng(0).integers(1, 90, 300)
    order = np.argsort(-lengths, kind="stable")
    chunks = batching.even_chunks(lengths, tokens, threads, order=order)
    assert np.array_equal(np.concatenate(chunks), order)
    sizes = [int(lengths[chunk].sum()) for chunk in chunks]
    assert max(sizes) <= tokens + 90 or tokens == 1
    assert max(sizes) - min(sizes) <= 2 * 90
    assert len(chunks) >= threads


def test_even_chunks_of_few_rows():
    assert batching.even_chunks(np.zeros(0, np.int64), 10, 2, order=np.zeros(0, np.int64)) == []
    (only,) = batching.even_chunks(np.array([7]), 3, 4, order=np.array([0]))
    assert only.tolist() == [0]
