"""Texts to vectors: the engine behind `albert embed` and `albert similarity`.

unique_ids.py  refuses an id that comes twice
encoders.py    which encoder of albert_cli.model computes on a device: packed on the CPU, plain on a GPU
pooling.py     hidden states -> one vector per text
modules.py     what a Sentence-Transformers model does after that: Dense and LayerNorm layers, Normalize
embedder.py    Embedder: texts -> vectors; the worker of every engine
parquet.py     the Parquet file: schema, metadata, quantisation
resume.py      work committed in parts, so that a killed run can be resumed
engine.py      the run: read, tokenize, embed, commit, write
ray_engine.py  the same run on a Ray cluster
merge.py       the files of all shards -> one file
similarity.py  cosines and nearest neighbours; heat_map.py draws them
sts.py         cosines of pairs against people's scores
"""
