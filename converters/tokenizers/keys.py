"""What the files of a tokenizer may say, and what is made of each setting.

The settings are those that `transformers` 4 and 5 write for SentencePiece, WordPiece and BPE tokenizers. `USUAL` holds
the values at which a refused setting changes nothing; any other value of one is reported as an error by
`converters.tokenizers.settings`, and a setting that is not listed here as a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from converters.known_keys import Key, Treatment

CONFIG, SPECIAL_MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED, PIPELINE = "added_tokens.json", "tokenizer.json"

NAMED_TOKENS = ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token")
EXTRA_TOKENS = ("additional_special_tokens", "extra_special_tokens")

# The values of refused settings that change no id: what the classes of transformers do by themselves.
USUAL: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True, None),
    "never_split": (None, [], {}),
    "remove_space": (True, None),
    "sp_model_kwargs": (None, {}),
    "add_prefix_space": (True, None),
    "add_bos_token": (False, None),
    "add_eos_token": (False, None),
    "auto_map": (None, {}),
    "split_by_punct": (False, None),
    "init_inputs": (None, []),
    "clean_text": (True, None),
    "wordpieces_prefix": ("##", None),
    "do_split_on_punc": (True, None),
}


def _keys(file: str, treatment: Treatment, **notes: str) -> Iterator[Key]:
    return (Key(file, key, treatment, note) for key, note in notes.items())


TOKENIZER_KEYS: tuple[Key, ...] = (
    Key("spiece.model", "", "honoured", "the SentencePiece model; also 30k-clean.model and other .model files"),
    Key("spiece.vocab", "", "honoured", "pieces and scores; the model is rebuilt from them where there is none"),
    Key("vocab.txt", "", "honoured", "a WordPiece list, line n is id n; also vocab_chinese.txt and the like"),
    Key(ADDED, "", "honoured", "added tokens and their ids"),
    Key("chat_template.jinja", "", "no effect", "texts are no chats"),
    Key("vocab.json", "", "honoured", "the pieces of a byte-level BPE and their ids, which are 0 to n"),
    Key(
        "merges.txt", "", "honoured", "the merges of a byte-level BPE, in order; neither file is read without the other"
    ),
    *_keys(
        CONFIG,
        "honoured",
        tokenizer_class="AlbertTokenizer, BertTokenizer, RobertaTokenizer and their kin, or the class for any "
        "tokenizer.json; another class is refused",
        do_lower_case="whether the text is lower-cased; of a BERT or ELECTRA without it, the directory's name decides, "
        "or capital letters in the vocabulary, and a note says so",
        keep_accents="whether accents stay (SentencePiece)",
        strip_accents="whether accents go (WordPiece); null: as do_lower_case says",
        tokenize_chinese_chars="whether each Chinese character is a word (WordPiece)",
        drop_category_c="ours: whether every character of Unicode's category C is dropped (WordPiece), as ELECTRA's "
        "tokenizer does, so by default of an ELECTRA",
        cls_token="the token before each text",
        sep_token="the token after each text",
        mask_token="the token that stands for a masked one",
        pad_token="the token that fills up a batch",
        unk_token="the token for what has none; of a SentencePiece model, it must be the model's own",
        bos_token="an added token, unless it is cls_token",
        eos_token="an added token, unless it is sep_token",
        additional_special_tokens="added tokens",
        extra_special_tokens="added tokens",
        model_specific_special_tokens="added tokens",
        added_tokens_decoder="added tokens and their ids",
        split_special_tokens="true: special added tokens in a text are plain text",
        truncation_side="the side on which a long text is cut",
        model_max_length="the length at which embed cuts, and predict with models of other programs; below 512",
        max_len="an older name of model_max_length",
        model_input_names="without token_type_ids, the second text of a pair is of type 0, as the first",
    ),
    *_keys(
        CONFIG,
        "refused",
        do_basic_tokenize="false: transformers' classes differ on it",
        never_split="transformers' classes differ on it; added tokens do the same",
        remove_space="false: transformers' classes differ on it",
        sp_model_kwargs="settings of the SentencePiece library, such as drawing pieces by chance",
        add_prefix_space="false: words would lose the space before them (SentencePiece); BPE: whether a text begins "
        "with a space, honoured",
        add_bos_token="true: the tokens around a text would be others; dropped beside a tokenizer.json",
        add_eos_token="true: the tokens around a text would be others; dropped beside a tokenizer.json",
        auto_map="a tokenizer in Python code of its own",
        split_by_punct="true: another way to cut words",
        do_split_on_punc="false: another way to cut words",
        init_inputs="arguments of a class",
        clean_text="false: control characters would stay",
        wordpieces_prefix="other than ##",
    ),
    *_keys(
        CONFIG,
        "no effect",
        unk_id="the SentencePiece model has its own",
        padding_side="padding is masked, and on the right",
        pad_token_type_id="padding is masked",
        pad_to_multiple_of="padding is masked",
        max_length="what a tokenizer.json was last cut to",
        stride="what a tokenizer.json was last cut with",
        truncation_strategy="what a tokenizer.json was last cut with",
        return_token_type_ids="what a call returns",
        return_attention_mask="what a call returns",
        chat_template="texts are no chats",
        chat_control_tokens="texts are no chats",
        response_schema="texts are no chats",
        response_template="texts are no chats",
        clean_up_tokenization_spaces="how ids are decoded",
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output="how ids are decoded",
        trim_offsets="how spans are reported",
        backend="which library was used",
        is_local="where it was read from",
        local_files_only="where it was read from",
        name_or_path="where it was read from",
        special_tokens_map_file="where it was read from",
        tokenizer_file="where it was read from",
        vocab_file="where it was read from",
        full_tokenizer_file="where it was read from",
        from_slow="how it was read",
        use_fast="how it was read",
        device_map="how the model was read",
        processor_class="the class of another library's part",
        transformers_version="who wrote it",
        verbose="what transformers prints",
        errors="how text that is not UTF-8 was read",
        vocab_size="the vocabulary has its own size",
        model_type="config.json says it",
        spaces_between_special_tokens="how ids are decoded",
        deprecation_warnings="what transformers prints",
    ),
    *_keys(
        SPECIAL_MAP,
        "honoured",
        **dict.fromkeys(("bos_token", "eos_token", *NAMED_TOKENS, *EXTRA_TOKENS), "as in tokenizer_config.json"),
    ),
    *_keys(
        PIPELINE,
        "honoured",
        version="1.0",
        added_tokens="added tokens and their ids",
        normalizer="the preparations that ALBERT's and BERT's tokenizers have, none for BPE; another one is refused",
        pre_tokenizer="those of ALBERT's, BERT's and RoBERTa's tokenizers; another one is refused",
        post_processor="[CLS] A [SEP] B [SEP], of BPE <s> A </s></s> B </s>; another order is refused",
        model="WordPiece, Unigram or byte-level BPE; another type is refused",
        truncation="its direction is the side on which a long text is cut; its length is no setting",
    ),
    Key(PIPELINE, "model.type", "honoured", "WordPiece, Unigram or BPE; another type is refused"),
    Key(PIPELINE, "model.vocab", "honoured", "the vocabulary, which must be that of the files beside it"),
    Key(PIPELINE, "model.merges", "honoured", "the merges, which must be those of merges.txt"),
    Key(PIPELINE, "model.unk_token", "honoured", "the token for what has none"),
    Key(PIPELINE, "model.unk_id", "honoured", "the piece for what has none"),
    Key(PIPELINE, "model.max_input_chars_per_word", "honoured", "a longer word is one unknown token"),
    Key(PIPELINE, "model.continuing_subword_prefix", "refused", "other than ##"),
    Key(PIPELINE, "model.byte_fallback", "refused", "true: unknown characters as bytes"),
    Key(PIPELINE, "model.dropout", "refused", "above 0: merges left out by chance"),
    Key(PIPELINE, "model.end_of_word_suffix", "refused", "other than none"),
    Key(PIPELINE, "model.ignore_merges", "refused", "true: another way to cut words"),
    *_keys(PIPELINE, "no effect", padding="padding is masked", decoder="how ids are decoded"),
)

# Those of tokenizer_config.json that are true or false.
SWITCHES = (
    "do_lower_case", "keep_accents", "strip_accents", "tokenize_chinese_chars", "drop_category_c",
    "split_special_tokens", "do_basic_tokenize", "remove_space", "add_prefix_space", "add_bos_token", "add_eos_token",
    "split_by_punct", "do_split_on_punc", "clean_text",
)  # fmt: skip

BY_FILE: dict[str, dict[str, Key]] = {}
for _key in TOKENIZER_KEYS:
    BY_FILE.setdefault(_key.file, {})[_key.key] = _key
