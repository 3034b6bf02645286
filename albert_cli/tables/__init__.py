"""The reader and the writer of text, CSV, TSV, JSONL and Parquet."""
