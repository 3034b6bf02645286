"""What a tokenizer does with texts, made visible: records, tables, a page, statistics, comparison."""
