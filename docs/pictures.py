"""Draw the pictures of docs/pictures: a heat map, curves, and the HTML page of `albert tokenize` in a headless browser.

`python docs/pictures.py`; without Chromium on the PATH the page of tokens is left as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SENTENCES = (
    "I like my phone",
    "My phone is not good.",
    "Recently a lot of hurricanes have hit the US",
    "Global warming is real",
    "How old are you?",
    "what is your age?",
)
GOOD = ("a lovely film", "we laughed all evening", "a warm and clever story", "the best actors of the year")
BAD = ("a dull film", "we slept all evening", "a cold and clumsy story", "the worst actors of the year")
TEXTS = ("The café sold 9,000 books.", "Unbelievably, Москва is bigger.")


def albert(folder: Path, *words: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "ALBERT_MODEL": "built-in"}
    subprocess.run([sys.executable, "-m", "albert_cli", *words, "-q"], cwd=folder, env=environment, check=True)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "texts.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
        albert(folder, "similarity", "-i", "texts.txt", "--plot", "heat-map.png")
        rows = [f"{text},{label}" for label, texts in (("good", GOOD), ("bad", BAD)) for text in texts]
        (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
        words = [
            "--train",
            "reviews.csv",
            "--dev",
            "reviews.csv",
            "--epochs",
            "20",
            "--batch-size",
            "4",
            "--lr",
            "3e-4",
        ]
        albert(folder, "finetune", "csv", *words, "--max-length", "32", "--out", "run")
        albert(folder, "tokenize", *TEXTS, "--out", "tokens.html")
        shutil.copy(folder / "heat-map.png", PICTURES)
        shutil.copy(folder / "run/curves.png", PICTURES)
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            print("no Chromium here: tokens.png is left as it is")
            return
        shot = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,560"]
        shot += [f"--screenshot={PICTURES / 'tokens.png'}", f"--user-data-dir={folder / 'profile'}"]
        subprocess.run([browser, *shot, (folder / "tokens.html").as_uri()], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
