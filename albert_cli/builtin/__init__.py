"""The built-in model: its weights and card (`model/`), and how it is made (`build.py`, `stage_*.toml`)."""
