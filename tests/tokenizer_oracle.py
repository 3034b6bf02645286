"""Google's rules for ids, written from the description in its tokenization.py and with nothing of the package."""

import json
import unicodedata


def google_ids(processor, texts, *, lower=True):
    """preprocess_text, then encode_pieces, then PieceToId, for each text."""
    prepared = []
    for text in texts:
        clean = unicodedata.normalize("NFKD", " ".join(text.strip().split()))
        clean = "".join(c for c in clean if not unicodedata.combining(c))
        prepared.append(clean.lower() if lower else clean)
    rows = []
    for pieces in processor.encode(prepared, out_type=str):
        row = []
        for piece in pieces:
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                again = processor.encode(piece[:-1].replace("▁", ""), out_type=str)
                if piece[0] != "▁" and again[0][0] == "▁":
                    again = again[1:] if len(again[0]) == 1 else [again[0][1:], *again[1:]]
                row += [*again, ","]
            else:
                row.append(piece)
        rows.append([processor.piece_to_id(piece) for piece in row])
    return rows


def golden(shared_data):
    with (shared_data / "tokenizer/golden.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def glue_texts(shared_data):
    """Every cell of every GLUE file, each once."""
    texts = set()
    for path in sorted((shared_data / "glue").glob("*/*.tsv")):
        for line in path.read_text(encoding="utf-8-sig").split("\n"):
            texts.update(line.removesuffix("\r").split("\t"))
    return sorted(texts)
