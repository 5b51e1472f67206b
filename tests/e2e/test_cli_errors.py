"""Wrong input, by the hundred: each gets one line and exit code 2, and leaves nothing behind.

The command line runs in this process, in an empty working directory, with its real standard
streams; a handful run as processes of their own. What the cases work on is made once, in
``{m}``: reviews, a store with a finished search, an export, and what is broken of each.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imdbtune import api
from imdbtune.cli.app import main
from tests.support import Stub, isolate, make_config, run_search, untried_exports, write_tiny_model

HUGE = "99999999999999999999"
AT_MOST_S = 60
COMMANDS = (
    *("search", "train", "reproduce", "best", "compare", "report", "ui", "predict", "data"),
    *("summary", "sync", "doctor"),
)


@dataclass(frozen=True)
class Case:
    """A command line, ``{m}`` standing for the materials; words that its answer must have."""

    line: str | tuple[str, ...]
    says: str | tuple[str, ...]
    toml: str | bytes | None = None  # written to a file that is the last argument
    code: int = 2

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.line.split()) if isinstance(self.line, str) else self.line

    @property
    def words(self) -> tuple[str, ...]:
        return (self.says,) if isinstance(self.says, str) else self.says

    def __str__(self) -> str:
        about = [*self.arguments, *([] if self.toml is None else [repr(self.toml)])]
        return ascii(" ".join(about))[1:-1].replace("/", "|")[:70]


def dry(arguments: str, *says: str) -> Case:
    return Case(f"search --dry-run {arguments}", says)


def setting(key_value: str, *says: str) -> Case:
    return Case(("summary", "--set", key_value), says)


def toml(content: str | bytes, *says: str) -> Case:
    return Case("search --dry-run", says, content)


UNITS = "units is a whole number from 1 to 2048"
FLAGS = [
    *(Case((command, "--nonsense"), "No such option: --nonsense") for command in COMMANDS),
    Case("serch", ("serch", "Did you mean 'search'?")),
    Case(("search\x1b[31m",), "search\\x1b[31m"),
    Case("search one two", "unexpected extra argument"),
    Case("search --units", "requires an argument"),
    Case("search --dry-run=3", "does not take a value"),
    Case("train", "Missing argument 'MODEL'"),
    Case("reproduce", "Missing argument 'RUN_ID'"),
    dry("--rnn lstm,lstm", "'lstm', 'lstm'", "twice"),
    dry("--rnn transformer", "'transformer'", "simple_rnn, lstm, gru"),
    dry("--rnn ,", "rnn = ''", "simple_rnn, lstm, gru"),
    dry("--units 64-16", "64 to 16 is an empty range"),
    dry("--units 16-16", "16 to 16 is an empty range"),
    dry("--units 16-64:0", "step = '0'", "above 0, at most 48"),
    dry("--units 16-64:500", "step = '500'", "above 0, at most 48"),
    dry("--units 16-64:x1", "step = '1'", "above 1"),
    dry("--units 16-64:x0", "step = '0'", "above 1"),
    dry("--units 0-64:log", "units = '0'", UNITS),
    *(dry(f"--units {units}", f"units = '{units}'", UNITS) for units in ("0", "-5", "1e30", HUGE)),
    *(dry(f"--units {units}", f"units = '{units}'", UNITS) for units in ("nan", "inf", "1.5")),
    dry("--units 16,,32", "units = ''", UNITS),
    dry("--units 16-32-64", "'16-32-64'", UNITS),
    dry("--units 1e400-1e500", "'1e400'", UNITS),
    dry("--units ٣٢", "units = ", UNITS),
    dry("--depth 9", "depth = '9'", "from 1 to 8"),
    dry("--maxlen 5001", "maxlen = '5001'", "from 1 to 5000"),
    dry("--tuner greedy", "'greedy'", "random, grid, bayesian, hyperband"),
    dry("--max-trials -1", "max_trials = '-1'", "from 0 to 1000000"),
    dry("--max-trials 1e30", "max_trials = '1e30'", "from 0 to 1000000"),
    dry("--max-minutes nan", "max_minutes = 'nan'", "a number from 0 to 525600"),
    dry("--max-minutes inf", "max_minutes = 'inf'", "a number from 0 to 525600"),
    dry("--max-minutes -1", "max_minutes = '-1'", "a number from 0 to 525600"),
    dry("--epochs 0", "epochs = '0'", "from 1 to 10000"),
    dry("--epochs 1.5", "epochs = '1.5'", "from 1 to 10000"),
    dry(f"--epochs {HUGE}", HUGE, "from 1 to 10000"),
    dry("--executions 0", "executions = '0'", "from 1 to 100"),
    dry("--trial-timeout soon", "trial_timeout = 'soon'"),
    dry("--trial-timeout -1", "trial_timeout = '-1'", "from 0"),
    dry("--trial-timeout nan", "trial_timeout = 'nan'"),
    dry("--retries 101", "retries = '101'", "from 0 to 100"),
    dry("--retries 1.5", "retries = '1.5'"),
    dry("--seed -1", "seed = '-1'", "from 0 to 2147483647"),
    dry("--seed 2147483648", "seed = '2147483648'", "from 0 to 2147483647"),
    dry("--reviews -1", "reviews = '-1'", "from 0 to 10000000"),
    dry("--reviews some", "reviews = 'some'", "from 0 to 10000000"),
    *(dry(f"--workers {n}", f"--workers '{n}'", "0 to 1024") for n in ("-1", "x", "1.5", HUGE)),
    dry("--compile maybe", "'maybe'", "auto, on, off"),
    dry("--keep-models -1", "'-1'", "all, best, or a number"),
    dry(f"--keep-models {'9' * 5000}", "'999", "all, best, or a number"),
    dry(f"--name {'x' * 251}", "name = 'xxx", "at most 250 characters"),
    Case(("search", "--dry-run", "--name", "a\tb\x1b[2J"), ("'a\\tb\\x1b[2J'", "a line of text")),
    Case(("search", "--dry-run", "--experiment", " "), ("experiment = ' '", "a line of text")),
    Case(("search", "--dry-run", "--experiment", "\udcff"), ("'\\udcff'", "a line of text")),
    dry("--data nonsense", "'nonsense'", "auto, imdb, demo, PATH.npz"),
    dry("--data {m}/missing.npz", "missing.npz'", "imdb or demo"),
    dry("--data ~no.body/imdb.npz", "~no.body/imdb.npz"),
    dry(f"--data {'x' * 5000}.npz", "no file 'xxx"),
    dry("--resume", "--resume with --dry-run"),
    setting("training.patience", "SECTION.KEY=VALUE"),
    setting("=3", "SECTION.KEY=VALUE"),
    setting(".=3", "''", "name, about, space"),
    setting("training.=3", "''", "epochs, patience"),
    setting("training.patience=", "patience = ''", "from 0 to 10000"),
    setting("training.patience=-1", "patience = '-1'", "from 0 to 10000"),
    setting("name.x=3", "'name'", "space, data, tuner"),
    setting("a.b.c=3", "'a.b'", "space, data, tuner"),
    setting("space.layers=3", "'layers'", "depth"),
    setting("space.bidirectional=maybe", "'maybe'", "true or false"),
    setting("space.learning_rate=0", "'0'", "from 1e-07 to 10"),
    setting("space.dropout=0-0.5:log", "cannot be sampled as log"),
    setting("space.learning_rate=1e-4-1e-2:1e-300", "'1e-300'", "larger step"),
    setting("space.learning_rate=1e-4-1e-2:x1.0000000001", "'1.0000000001'", "larger step"),
    setting("space.units=16,32", "units open", "--set space.NAME=VALUE"),
    Case("summary default", ("rnn, depth", "--set space.NAME=VALUE")),
    Case("train default", ("rnn, depth", "imdbtune search")),
    Case("train listing_6_23 --epochs 0", ("epochs = '0'", "from 1 to 10000")),
    Case("train listing_6_23 --data nonsense", ("'nonsense'", "auto, imdb, demo, PATH.npz")),
    Case("compare --json --csv", ("--json and --csv", "one of the two")),
    *(
        Case(f"compare --limit {n}", (f"--limit '{n}'", "1 to 1000000"))
        for n in ("0", "-1", "x", "1.5", HUGE)
    ),
    *(
        Case(f"ui --port {n}", (f"--port '{n}'", "1 to 65535"))
        for n in ("0", "-1", "x", "65536", HUGE)
    ),
    Case("predict good", ("no --model", "imdbtune best --export")),
    Case("predict --model {m}/export", ("no text", "standard input")),
    Case("predict --model {m}/export good --json --csv", "one of the two"),
    Case("predict --model {m}/export good --explain-html {m}/imdb.npz", "is there already"),
    Case("predict --model {m}/export good --explain-html {m}/no/x.html", "no folder"),
    Case(f"predict --model {{m}}/export good --explain-html {'x' * 5000}", "File name too long"),
    Case("predict --model {m}/export good --text-column body", ("'body'", "--file")),
]

TOMLS = [
    toml("[tuner", "is not TOML", "Expected ']'"),
    toml("name = 'a'\nname = 'b'", "is not TOML", "overwrite"),
    toml("[tuner]\nseed = 1\n[tuner]\nseed = 2", "is not TOML", "twice"),
    toml("name = 'a\0'", "is not TOML", "invalid character"),
    toml(f"a = {'[' * 9999}", "is not TOML"),
    toml(f"a = {'9' * 9999}", "is not TOML"),
    toml("sed = 1", "'sed'", "name, about, space"),
    toml("[tunr]", "'tunr'", "Did you mean 'tuner'?"),
    toml('["\\u001b[31m"]', "\\x1b[31m", "name, about, space"),
    toml("[tuner]\nsed = 1", "[tuner] 'sed'", "Did you mean 'seed'?"),
    toml("[space]\nlayers = 1", "'layers'", "depth"),
    toml("[space]\nunits = { maximum = 3 }", "'maximum'", "Did you mean 'max'?"),
    toml(f"[space]\nunits.{'a.' * 3000}a = 1", "units", "min, max, step"),
    toml("tuner = 3", "tuner = 3", "[tuner]"),
    toml("[[tuner]]\nseed = 1", "tuner = [", "[tuner]"),
    toml("name = ''", "name = ''", "a line of text"),
    toml('name = "a\\u001b[31m"', "'a\\x1b[31m'", "a line of text"),
    toml("[tracking]\nexperiment = ''", "experiment = ''", "a line of text"),
    toml('[tracking]\nuri = "x\\ny"', "uri = 'x\\ny'", "a line of text"),
    toml("[tracking]\nkeep_models = true", "keep_models = True"),
    toml("[data]\nsource = ''", "source ''", "auto, imdb, demo"),
    toml("[data]\nsource = ['imdb']", "source = ['imdb']", "a line of text"),
    toml("[data]\nreviews = 'all'", "reviews = 'all'", "from 0 to 10000000"),
    toml("[tuner]\nkind = ['grid']", "['grid']", "random, grid, bayesian, hyperband"),
    toml("[tuner]\nseed = 1e400", "seed = inf", "from 0 to 2147483647"),
    toml("[tuner]\nseed = nan", "seed = nan", "from 0 to 2147483647"),
    toml("[training]\nepochs = true", "epochs = True", "from 1 to 10000"),
    toml("[space]\nunits = []", "units = []", UNITS),
    toml("[space]\nunits = [[16]]", "[16]", UNITS),
    toml("[space]\nunits = [16, 16]", "[16, 16]", "twice"),
    toml("[space]\nunits = 2020-01-01", "2020", UNITS),
    toml("[space]\nunits = {}", "units = {}", "min and max"),
    toml("[space]\nunits = { min = 64, max = 16 }", "64 to 16 is an empty range"),
    toml("[space]\nunits = { min = 1, max = 9, step = 0 }", "step = 0", "above 0"),
    toml("[space]\nunits = { values = [8], when = { cells = 1 } }", "'cells'", "rnn"),
    toml("[space]\nunits = { values = [8], when = [] }", "when = []", "when = {"),
    toml("[space]\nunits = { values = [8], when = { rnn = 'gru' } }", "not in the space"),
    toml("[space]\nrnn = 'gru'\nunits = { values = [8], when = { rnn = [] } }", "rnn", "[]"),
    toml("[space]\nunits = { values = [8, 9], when = { units = 8 } }", "units -> units", "circle"),
    toml(
        "[space]\nunits = { values = [8, 9], when = { depth = 1 } }\n"
        "depth = { values = [1, 2], when = { units = 8 } }",
        "units -> depth -> units",
        "circle",
    ),
    toml(
        "[space]\nrnn = { values = ['lstm', 'gru'], when = { vocabulary = 5, units = 0 } }\n"
        "vocabulary = { min = 4, max = 100000 }\nunits = { min = 1, max = 2048 }",
        "units = 0",
        UNITS,
    ),
    toml("name = 'x'".encode("utf-16"), "UTF-8"),
    toml("name = 'café'".encode("latin-1"), "UTF-8"),
    toml(bytes(range(256)), "UTF-8"),
    Case("train nonsense", ("'nonsense'", "listing_6_23")),
    Case("train {m}", ("no file", "listing_6_23")),
    Case("train {m}/missing.toml", ("missing.toml'", "listing_6_23")),
    Case("train {m}/imdb.npz", "UTF-8"),
    Case("train {m}/imdb.npz/x.toml", "imdb.npz/x.toml'"),
    Case(("train", "a\x1b[31mb"), "'a\\x1b[31mb'"),
    Case(("train", "x" * 5000), "File name too long"),
    Case("summary nonsense", ("'nonsense'", "listing_6_23")),
]

SECRET = "open.sesame"
STORE = "--tracking-uri sqlite:///{m}/mlflow.db"
STORES = [
    *(
        Case(f"{command} --tracking-uri {uri}", (uri, "sqlite:///mlflow.db"))
        for command in ("best", "compare", "report", "ui", "search --resume", "search --dry-run")
        for uri in ("nonsense", "ftp://host/x")
    ),
    Case("train listing_6_23 --data {m}/imdb.npz --tracking-uri nonsense", "'nonsense'"),
    Case("search --data {m}/imdb.npz --tracking-uri nonsense", "'nonsense'"),
    Case("best --tracking-uri sqlite:///nowhere/mlflow.db", ("no folder", "nowhere'")),
    Case("best --tracking-uri sqlite:///", ("names no file", "sqlite:///mlflow.db")),
    Case("best --tracking-uri sqlite://mlflow.db", ("names no file", "sqlite:///mlflow.db")),
    Case("search --dry-run --tracking-uri sqlite:///:memory:", "names no file"),
    Case("best --tracking-uri sqlite:///{m}", "is a folder"),
    Case("best --tracking-uri sqlite:///{m}/imdb.npz", "is not an SQLite file"),
    Case("best --tracking-uri sqlite:///{m}/damaged.db", "cannot be used"),
    *(
        Case(f"{command} --tracking-uri sqlite:///{{m}}/films.db", "no tracking store at")
        for command in ("best", "compare", "search --resume")
    ),
    Case(f"best --tracking-uri sqlite:///{'x' * 5000}", "File name too long"),
    Case("best --tracking-uri file:///{m}/nowhere", "cannot be used"),
    Case(("best", "--tracking-uri", "sqlite:///a\x1b[31m.db"), "a\\x1b[31m.db"),
    *(
        Case(f"{command} --tracking-uri http://me:{SECRET}@127.0.0.1:{{port}}", "//***@127.0.0.1:")
        for command in ("best", "report", "ui", "search --resume", "search --data {m}/imdb.npz")
    ),
    Case(f"compare --tracking-uri postgresql://me:{SECRET}@127.0.0.1:{{port}}/db", "//***@"),
    Case(f"compare --tracking-uri mysql+none://me:{SECRET}@127.0.0.1:{{port}}/db", "//***@"),
    Case(f"compare --tracking-uri gopher://me:{SECRET}@127.0.0.1/db", "//***@"),
    *(
        Case(command, ("no tracking store at", "mlflow.db'", "--tracking-uri"))
        for command in ("best", "compare", "report", "ui", "search --resume", "best --export w")
    ),
]

IDS = [
    Case("sync", ("no search in", ".imdbtune", "run this in the folder")),
    Case(("sync", "a\x1b[31m\nb"), ("no search 'a\\x1b[31m\\nb'", ".imdbtune")),
    *(
        Case((*f"{command} {STORE}".split(), *before, name), ("no search", shown))
        for command, before in (
            ("best", ["--search"]),
            ("compare", []),
            ("report", []),
            ("ui", []),
            ("search --resume", []),
        )
        for name, shown in (
            ("nonsense", "'nonsense'"),
            ("0" * 32, "'000"),
            ("../../etc/passwd", "'../../etc/passwd'"),
            ('it\'s "here" %_`', "here"),
            ("a\x1b[31m\nb", "a\\x1b[31m\\nb"),
            ("\udcff", "\\udcff"),
            ("x" * 9000, "'xxx"),
        )
    ),
    Case(f"compare tiny nonsense {STORE}", "no search 'nonsense'"),
    Case(f"reproduce nonsense {STORE}", "no trial with run id 'nonsense'"),
    Case(("reproduce", *STORE.split(), "a\x1b[31m\nb"), "a\\x1b[31m\\nb"),
    Case(f"reproduce {{trial}} {STORE} --data nowhere.npz", "no file 'nowhere.npz'"),
    Case(f"reproduce {{trial}} {STORE} --data demo", "are not those of"),
    *(
        Case((*f"compare {STORE}".split(), *given), says)
        for given, says in (
            (["--where", "cells=gru"], ("column 'cells'", "rnn, depth")),
            (["--where", "rnn = "], ("has the end where a value", "rnn=gru and")),
            (["--where", "rnn=gru\x1b[31m and"], "'rnn=gru\\x1b[31m and'"),
            (["--where", "units>many"], "units holds numbers, not 'many'"),
            (["--where", "rnn>gru"], "use =, != or in"),
            (["--where", "__import__('os').system('true')"], "column '__import__'"),
            (["--where", "(" * 9000], "more than 50 brackets"),
            (["--sort", "score"], ("column 'score'", "best_val_accuracy")),
            (["--sort", "units:down"], ("'units:down'", "COLUMN:desc")),
            (["--sort", ","], "column ''"),
            (["--columns", "rnn,cells"], ("column 'cells'", "rnn, depth")),
        )
    ),
    Case(f"report {STORE} --out {{m}}", "is a folder"),
    Case(f"report {STORE} --out {{m}}/imdb.npz", ("is no report", "--out")),
    Case(f"report {STORE} --out {{m}}/imdb.npz/x.html", "no folder"),
    Case(f"report {STORE} --out {'x' * 5000}", "File name too long"),
    Case(f"report {STORE} --out /proc/report.html", "cannot be written"),
    *(
        Case(f"{command} --tracking-uri sqlite:///{{m}}/odd.db", ("units = '9999999'", "run "))
        for command in ("best", "compare")
    ),
    Case(f"best --search {{trial}} {STORE}", "no search"),
    Case(f"search --resume tiny {STORE}", ("cannot go on here", "is missing")),
    Case(f"best {STORE} --export {{m}}/imdb.npz", "is a file"),
    Case(f"best {STORE} --export {{m}}/imdb.npz/new", "imdb.npz' is a file"),
    Case(f"best {STORE} --export {{m}}", "holds other files"),
    Case(f"best {STORE} --export {{m}} --overwrite", "holds other files"),
    Case(f"best {STORE} --export {{m}}/export", ("is an export already", "--overwrite")),
    Case(f"best {STORE} --json --export {{m}}/export", ("is an export already", "--overwrite")),
    Case(f"best {STORE} --json --export {'x' * 5000}", "File name too long"),
    Case(f"best {STORE} --export new --format onxn", ("'onxn'", "Did you mean 'onnx'?")),
    Case(f"best {STORE} --export new --format keras,", ("format ''", "keras, savedmodel")),
    Case(f"best {STORE} --format onnx", ("--format goes with --export",)),
    *(
        Case(f"best {STORE} --refit --seed={n}", (f"--seed '{n}'", "0 to 2147483647"))
        for n in ("-1", "x", "1.5", HUGE)
    ),
    *(
        Case(f"best {STORE} --ensemble={n}", (f"--ensemble '{n}'", "2 to 50"))
        for n in ("0", "1", "-3", "x", HUGE)
    ),
    Case(f"best {STORE} --seed 3", "--seed goes with --refit"),
    Case(f"best {STORE} --with-linear", "--with-linear goes with --ensemble"),
    *(
        Case(f"confirm {STORE} --{flag}={n}", f"--{flag} '{n}'")
        for flag in ("top", "seeds")
        for n in ("0", "-1", "x", "nan", HUGE)
    ),
    Case(f"confirm nonsense {STORE}", "no search 'nonsense'"),
    Case(f"best {STORE} --register a/b", ("'a/b'", "letters, digits")),
    Case((*f"best {STORE} --register".split(), " "), ("registered as ' '", "letters, digits")),
    Case((*f"best {STORE} --register".split(), "a\x1b[31m"), ("a\\x1b[31m", "letters, digits")),
    Case((*f"predict {STORE} --model".split(), "models:/no@champion", "good"), "no model"),
    Case((*f"predict {STORE} --model".split(), "runs:/0/model", "good"), "no model"),
    Case((*f"predict {STORE} --model".split(), "models:/a\x1b[31m", "good"), "a\\x1b[31m"),
    Case("predict --model models:/reviews@champion good", "no tracking store at"),
]

CORPORA = [
    Case("data --data nonsense", ("'nonsense'", "auto, imdb, demo, PATH.npz")),
    Case("data --data {m}", ("no folder train", "train/pos")),
    Case("data --data {m}/missing.csv", "No such file"),
    Case("data --data {m}/missing.parquet", "No such file"),
    Case("data --data {m}/missing.npz", "No such file"),
    Case("data --data ~no.body/imdb.npz", "~no.body/imdb.npz'"),
    Case(("data", "--data", "a\x1b[31m.npz"), "a\\x1b[31m.npz"),
    Case("data --data {m}/folder.npz", "Is a directory"),
    Case("data --data {m}/imdb.npz --cache {m}/imdb.npz", "imdb.npz"),
    Case("data --data demo --cache {m}/imdb.npz", "imdb.npz"),
    Case(f"data --data demo --cache {'x' * 5000}", "File name too long"),
    *(
        Case(f"{command} {{m}}/{name}.npz", (f"{name}.npz is not an imdb.npz", says))
        for command in ("data --data", "search --data", "train listing_6_23 --data")
        for name, says in (
            ("text", "not a zip file"),
            ("empty", "not a zip file"),
            ("cut", "zip"),
            ("others", "it has no y_train"),
            ("floats", "x_train is not an object array of lists"),
            ("strings", "of x_train: a str is not a list of word ranks"),
            ("negative", "ranks below 1"),
            ("labels", "labels other than 0 and 1"),
            ("lengths", "x_train has 4 rows, y_train has 3"),
            ("no_rows", "x_train has 0 rows"),
            ("code", "x_train"),
        )
    ),
]

EXPORTS = [
    Case("predict --model nonsense good", ("'nonsense' is no export", "imdbtune best")),
    Case("predict --model {m}/imdb.npz good", "is no export"),
    Case(("predict", "--model", "a\x1b[31m", "good"), "a\\x1b[31m"),
    Case("predict --model {m}/no_metadata good", ("is no export", "metadata.json")),
    Case("predict --model {m}/broken_json good", ("is no export", "metadata.json")),
    Case("predict --model {m}/list_json good", "does not hold a JSON object"),
    Case("predict --model {m}/other_format good", "from something else"),
    Case("predict --model {m}/later_version good", ("version 99", "export the model again")),
    Case("predict --model {m}/huge_maxlen good", ("is damaged", "maxlen")),
    Case("predict --model {m}/no_words good", ("is damaged", "vocabulary.json")),
    Case("predict --model {m}/word_list good", ("is damaged", "vocabulary.json")),
    Case("predict --model {m}/word_texts good", ("is damaged", "rank")),
    Case("predict --model {m}/no_model good", ("is damaged", "model.keras")),
    Case("predict --model {m}/cut_model good", ("is damaged", "model.keras")),
    Case("predict --model {m}/climbing good", ("is not safe to open", "../evil")),
    Case("predict --model {m}/absolute good", ("is not safe to open", "/tmp/evil")),
    Case("predict --model {m}/not_keras good", ("is damaged", "model.keras")),
    Case("predict --model {m}/export --format onnx good", ("'onnx'", "allowed: keras")),
    Case("predict --model {m}/no_formats good", ("is damaged", "formats")),
    Case("predict --model {m}/export --file {m}/missing.csv", "No such file"),
    Case(
        f"predict --model {{m}}/export --file {'x' * 5000}", ("File name too long", "review a line")
    ),
    Case(f"predict --model {'x' * 5000} good", "File name too long"),
    Case("predict --model {m}/export --file {m}/missing.txt", "No such file"),
    Case("predict --model {m}/export --file {m}", ("Is a directory", "standard input")),
    Case("predict --model {m}/export --file {m}/imdb.npz --text-column x", "is for tables"),
]


KINDS = {"pipe": "a pipe", "device": "a device", "socket": "a socket"}
TABLES = ("csv", "tsv", "jsonl", "parquet")
WEIGHTS = {"savedmodel": "saved_model/saved_model.pb", "numpy": "model.npz"}
# Pipes would be waited for, and devices be read without end.
NO_FILES = [
    *(
        Case(f"{command} {{m}}/{kind}.{ending}", f"it is {called}, no file")
        for kind, called in KINDS.items()
        for command, ending in (
            *(("data --data", ending) for ending in ("npz", *TABLES)),
            ("search --dry-run --data", "csv"),
            ("train listing_6_23 --data", "npz"),
            ("search --dry-run", "toml"),
            ("train", "toml"),
            ("summary", "toml"),
            ("report --out", "html"),
            *(("predict --model {m}/export --file", ending) for ending in ("txt", *TABLES)),
        )
    ),
    *(
        Case(f"{command} --tracking-uri sqlite:///{{m}}/{kind}.db", f"it is {called}, no file")
        for kind, called in KINDS.items()
        for command in ("best", "search --data {m}/imdb.npz")
    ),
    *(
        Case(f"predict --model {{m}}/{kind}_{name} good", (f"{name}", f"it is {called}, no file"))
        for kind, called in KINDS.items()
        for name in ("metadata", "vocabulary", "model", *WEIGHTS)
    ),
    *(
        Case(f"data --data {{m}}/{kind}_words/imdb.npz", ("imdb_word_index.json", called))
        for kind, called in KINDS.items()
    ),
    Case("data --data {m}/pipe_review", ("neg/1.txt", "it is a pipe, no file")),
    Case("data --data {m}/folder.csv", "no folder train"),
    Case("data --data {m}/device_words", "no folder train"),
    Case("search --dry-run --data {m}/folder.npz", "no file"),
    Case("predict --model {m}/metadata_pipe/metadata.json good", "is no export"),
    Case(f"best {STORE} --export {{m}}/pipe.txt", "is a file"),
]


@dataclass(frozen=True)
class Answer:
    code: Any
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``{m}`` stands for."""
    folder = tmp_path_factory.mktemp("materials")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        untried_exports(patch)
        words = json.dumps({f"w{rank}": rank for rank in range(1, 20)})
        (folder / "imdb_word_index.json").write_text(words)
        space = {"units": [4, 8], "vocabulary": 10}
        config = make_config(folder, space=space, tracking={"keep_models": "all"})
        run_search(config, folder, trainer=Stub(write_tiny_model))
        _, trial = api.best(uri=config.tracking.uri)
        (folder / "trial_id").write_text(trial.run_id)
        api.export(trial, folder / "export", uri=config.tracking.uri, cache=folder / "cache")
    (folder / "damaged.db").write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 8)
    with sqlite3.connect(folder / "films.db") as films:
        films.execute("CREATE TABLE films (title TEXT)")
    films.close()
    shutil.copyfile(folder / "mlflow.db", folder / "odd.db")
    with sqlite3.connect(folder / "odd.db") as odd:
        odd.execute("UPDATE params SET value = '9999999' WHERE key = 'units'")
    odd.close()
    break_corpora(folder)
    break_exports(folder)
    add_no_files(folder)
    return folder


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def break_corpora(folder: Path) -> None:
    rows = np.empty(4, object)
    rows[:] = [[1, 2], [3], [4, 5, 6], [7]]
    texts = rows.copy()
    texts[:] = "good"
    negative = rows.copy()
    negative[0] = [-1]
    labels = np.array([0, 1, 0, 1])
    code = np.empty(4, object)
    code[:] = [Evil()] * 4
    good = {"x_train": rows, "y_train": labels, "x_test": rows, "y_test": labels}
    broken: dict[str, dict[str, Any]] = {
        "floats": {"x_train": np.ones((4, 3))},
        "strings": {"x_train": texts},
        "negative": {"x_train": negative},
        "labels": {"y_train": labels + 1},
        "lengths": {"y_train": labels[:3]},
        "no_rows": {"x_train": rows[:0], "y_train": labels[:0]},
        "code": {"x_train": code},
    }
    for name, change in broken.items():
        np.savez(folder / f"{name}.npz", **{**good, **change})
    np.savez(folder / "others.npz", a=labels)
    (folder / "text.npz").write_text("reviews")
    (folder / "empty.npz").touch()
    whole = (folder / "imdb.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.npz").mkdir()


def break_exports(folder: Path) -> None:
    def export(name: str, **files: bytes | str | None) -> None:
        shutil.copytree(folder / "export", folder / name)
        for stem, content in files.items():
            ending = "model.keras" if stem == "model" else f"{stem}.json"
            if content is None:
                (folder / name / ending).unlink()
            else:
                data = content if isinstance(content, bytes) else content.encode()
                (folder / name / ending).write_bytes(data)

    def model(*members: str) -> bytes:
        with zipfile.ZipFile(folder / "model.zip", "w") as archive:
            for member in members:
                archive.writestr(member, "{}")
        return (folder / "model.zip").read_bytes()

    text = (folder / "export" / "metadata.json").read_text()
    about, network = json.loads(text), (folder / "export" / "model.keras").read_bytes()
    export("no_metadata", metadata=None)
    export("broken_json", metadata=text[:-20])
    export("list_json", metadata="[]")
    export("other_format", metadata=json.dumps({**about, "format": "onnx\x1b"}))
    export("later_version", metadata=json.dumps({**about, "format_version": 99}))
    export("huge_maxlen", metadata=json.dumps({**about, "maxlen": 1e30}))
    export("no_formats", metadata=json.dumps({**about, "formats": []}))
    export("no_words", vocabulary=None)
    export("word_list", vocabulary='["the", "film"]')
    export("word_texts", vocabulary='{"the": "first"}')
    export("no_model", model=None)
    export("cut_model", model=network[: len(network) // 2])
    export("climbing", model=model("config.json", "../evil"))
    export("absolute", model=model("config.json", "/tmp/evil"))
    export("not_keras", model=model("config.json", "metadata.json"))


def add_no_files(folder: Path) -> None:
    """What is no file, and exports, reviews and word indices with such in them."""

    def put(kind: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
                bound.bind(path.name)  # whole paths may be too long

    about = json.loads((folder / "export" / "metadata.json").read_text())
    for kind in KINDS:
        for ending in ("npz", *TABLES, "toml", "html", "db", "txt"):
            put(kind, folder / f"{kind}.{ending}")
        for name in ("metadata.json", "vocabulary.json", "model.keras"):
            export = folder / f"{kind}_{Path(name).stem}"
            shutil.copytree(folder / "export", export)
            put(kind, export / name)
        for name, weights in WEIGHTS.items():
            export = folder / f"{kind}_{name}"
            shutil.copytree(folder / "export", export)
            (export / "metadata.json").write_text(json.dumps({**about, "formats": {name: {}}}))
            put(kind, export / weights)
        put(kind, folder / f"{kind}_words" / "imdb_word_index.json")
        shutil.copyfile(folder / "imdb.npz", folder / f"{kind}_words" / "imdb.npz")
    for label in ("pos", "neg"):
        put("pipe", folder / "pipe_review" / "train" / label / "1.txt")
    (folder / "folder.csv").mkdir()


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a case."""
    (tmp_path / "here").mkdir()
    isolate(monkeypatch, tmp_path / "here")
    monkeypatch.setenv("IMDBTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


def hang_no_longer(number: int, frame: object) -> None:
    raise RuntimeError(f"no answer within {AT_MOST_S} seconds")


@pytest.fixture
def run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Calls the command line in this process, as the console script does."""
    terminate = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGALRM, hang_no_longer)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["imdbtune", *arguments])
        signal.alarm(AT_MOST_S)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.alarm(0)
        told = capfd.readouterr()
        return Answer(ended.value.code, told.out, told.err)

    yield call
    signal.signal(signal.SIGTERM, terminate)


def contents(folder: Path) -> dict[str, int]:
    """The files with their sizes; the cache is ours to write."""
    found = (path for path in folder.rglob("*") if "cache" not in path.parts)
    return {str(path): path.stat().st_size for path in found if path.is_file()}


@pytest.mark.parametrize(
    "case", [*FLAGS, *TOMLS, *STORES, *IDS, *CORPORA, *EXPORTS, *NO_FILES], ids=str
)
def test_wrong_input_gets_one_line_and_leaves_nothing(
    case: Case, run: Run, here: Path, materials: Path, dead_port: int, tmp_path: Path
) -> None:
    known = {"m": materials, "port": dead_port, "trial": (materials / "trial_id").read_text()}
    arguments = [a.format(**known) if "{" in a else a for a in case.arguments]
    if case.toml is not None:
        content = case.toml if isinstance(case.toml, bytes) else case.toml.encode()
        (tmp_path / "mine.toml").write_bytes(content)
        arguments.append(str(tmp_path / "mine.toml"))
    before = contents(materials)
    answer = run(*arguments)
    assert answer.err.startswith("imdbtune: "), answer
    assert (answer.code, answer.out) == (case.code, ""), answer
    assert [word for word in case.words if word not in answer.err] == [], answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.err.rstrip("\n").isprintable()
    assert len(answer.err) < 1000
    assert SECRET not in answer.err
    assert list(here.iterdir()) == []
    assert contents(materials) == before


PROCESSES = [
    Case("search --dry-run --units 64-16", "is an empty range"),
    Case("train nonsense", "'nonsense'"),
    Case("best", "no tracking store at"),
    Case("data --data {m}/code.npz", "code.npz is not an imdb.npz"),
    Case("predict --model {m}/climbing good", "is not safe to open"),
]


@pytest.mark.parametrize("case", PROCESSES, ids=str)
def test_processes_of_their_own_answer_alike(case: Case, here: Path, materials: Path) -> None:
    done = process([argument.format(m=materials) for argument in case.arguments])
    assert (done.returncode, done.stdout) == (case.code, b""), done.stderr
    assert case.words[0] in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert list(here.iterdir()) == []


def process(arguments: list[Any], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "imdbtune", *arguments]
    return subprocess.run(
        command, input=text, capture_output=True, check=False, timeout=300, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


ODD_TEXTS = [
    b"",
    b" \t ",
    b"a wonderful film",
    b"w1 " * 350_000,
    "🎬🍿 👍".encode(),
    "великолепный фильм".encode(),
    "映画はとても良い".encode(),
    "سينما رائعة".encode(),
    b"zero \0 bytes \0",
    b"\xff\xfe not UTF-8 \xc3",
    b"\x1b[2J\x1b[31mred",
    b"\r\r",
    b"--model",
]


def test_no_text_is_an_error(here: Path, materials: Path) -> None:
    """Each text is a line of standard input; what may be an argument is one as well."""
    given = [text for text in ODD_TEXTS if b"\0" not in text and len(text) < 100_000]
    arguments = ["predict", "--model", str(materials / "export"), "--json", "-", "--", *given]
    done = process(arguments, b"\n".join(ODD_TEXTS) + b"\n")
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(ODD_TEXTS) + len(given)
    assert all(math.isfinite(answer["probability"]) for answer in answers)
    assert {answer["label"] for answer in answers} <= {"positive", "negative"}
    assert list(here.iterdir()) == []


def test_what_is_shown_of_a_text_steers_no_terminal(here: Path, materials: Path) -> None:
    done = process(["predict", "--model", str(materials / "export"), "-"], b"\n".join(ODD_TEXTS))
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().split("\n")
    assert len(lines) == len(ODD_TEXTS) + 1
    assert all(line.isprintable() for line in lines)


def test_without_arguments_the_help_is_shown(run: Run, here: Path) -> None:
    answer = run()
    assert (answer.code, answer.out) == (2, "")
    assert all(f"\n  {command}" in answer.err for command in COMMANDS)


def test_a_mark_of_the_byte_order_before_a_file_is_no_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("\ufeff[space]\nunits = 4", encoding="utf-8")
    answer = run("search", "--dry-run", str(tmp_path / "mine.toml"))
    assert (answer.code, answer.err) == (0, "")
    assert "units = 4" in answer.out


def test_a_full_disk_is_told_in_a_line(here: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imdbtune", "search", "--dry-run"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env=environment(),
        )
    assert done.returncode == 1
    assert done.stderr == b"imdbtune: No space left on device; mend that and run again.\n"
