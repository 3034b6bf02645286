"""Texts to vectors: the engine behind `albert embed` and `albert similarity`.

sources.py     files, globs, standard input -> record batches of rows
unique_ids.py  refuses an id that comes twice
encoders.py    the encoder for a device: fast.py (with kernels.py) on the CPU, the plain model on a GPU
pooling.py     hidden states -> one vector per text
embedder.py    Embedder: texts -> vectors; the worker of every engine
output.py      the Parquet file: schema, metadata, quantisation
parts.py       work committed in parts, so that a killed run goes on
engine.py      the run: read, tokenize, embed, commit, write
ray_engine.py  the same run on a Ray cluster
merge.py       the files of all shards -> one file
similarity.py  cosines and nearest neighbours; heat_map.py draws them
"""
