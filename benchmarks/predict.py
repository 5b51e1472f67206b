"""Reviews a second of ``imdbtune predict --file``: whole processes, from raw text to CSV.

The model is the LSTM of Listing 6.27 (32 units, the last 500 words) as searches train it, with
weights as they begin: how good they are does not change the time. Its export, the 25,000 test
reviews as text and each answer lie in a temporary folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine_lines
from imdbtune.config.extensions import FORMATS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.data.corpus import INDEX_FROM, PAD, START, Corpus
from imdbtune.data.sources import default_cache, open_corpus
from imdbtune.errors import UserError
from imdbtune.export.format import Trained
from imdbtune.export.formats import export_model
from imdbtune.export.verify import sample_texts
from imdbtune.export.writing import ExportContents
from imdbtune.models.builders import plain_model


def write_reviews(corpus: Corpus, path: Path, count: int) -> int:
    """The first ``count`` test reviews as text, one a line; returns how many there are."""
    words = {rank + INDEX_FROM: word for word, rank in corpus.word_index().items()}
    rows = range(min(count, len(corpus.test)))
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            ids = (int(i) for i in corpus.test[row] if i not in (PAD, START))
            file.write(" ".join(words.get(i, "?") for i in ids) + "\n")
    return len(rows)


def export(corpus: Corpus, folder: Path, names: list[str], padded: bool) -> Path:
    """The listing's model as `imdbtune best --export` writes it."""
    params = TrialParams()
    file = folder / "model.keras"
    plain_model(params, masked=not padded).save(file)
    trained = Trained(file, params, masked=not padded)
    words = corpus.word_index()
    batching = "padded" if padded else "buckets"
    metadata = {"parameters": params.as_dict(), "batching": batching, "metrics": {}}
    texts = sample_texts(corpus.train, words)
    return export_model(trained, names, ExportContents(words, metadata), texts, folder / "export")


def measure(model: Path, name: str, reviews: Path) -> float:
    """Seconds of one process that labels all reviews."""
    command = [sys.executable, "-m", "imdbtune", "predict", "--model", str(model)]
    command += ["--format", name, "--file", str(reviews), "--csv"]
    with (reviews.parent / "labelled.csv").open("wb") as out:
        began = time.perf_counter()
        subprocess.run(command, stdout=out, check=True)
        return time.perf_counter() - began


def main() -> None:
    """Measure each format in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="imdb.npz, with its word index beside it")
    parser.add_argument("--reviews", type=int, default=25_000)
    parser.add_argument("--formats", default="keras,numpy,onnx")
    parser.add_argument("--padded", action="store_true", help="as in the book: no mask")
    args = parser.parse_args()
    names = [name for name in args.formats.split(",") if _is_installed(name)]
    print(*machine_lines(), sep="\n")
    corpus = open_corpus(args.data, default_cache(), print)
    with tempfile.TemporaryDirectory() as folder:
        reviews = Path(folder, "reviews.txt")
        count = write_reviews(corpus, reviews, args.reviews)
        one = Path(folder, "one.txt")
        one.write_text("a wonderful film\n", encoding="utf-8")
        model = export(corpus, Path(folder), names, args.padded)
        print(f"\n{count:,} reviews\n")
        print(
            "| format | one review s | all reviews s | reviews/s, whole process | after the start |"
        )
        print("|---|---|---|---|---|")
        for name in names:
            start, seconds = measure(model, name, one), measure(model, name, reviews)
            rates = f"{count / seconds:,.0f} | {count / (seconds - start):,.0f}"
            print(f"| {name} | {start:.1f} | {seconds:.1f} | {rates} |", flush=True)


def _is_installed(name: str) -> bool:
    try:
        FORMATS[name].check_installed()
    except UserError as error:
        print(error)
        return False
    return True


if __name__ == "__main__":
    main()
