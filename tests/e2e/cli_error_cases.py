"""Command lines that are refused; ``{m}`` stands for the folder of :mod:`tests.broken_inputs`."""

from __future__ import annotations

from dataclasses import dataclass

from tests.broken_inputs import CORPORA, KINDS, TABLES, WEIGHTS

COMMANDS = (
    *("search", "train", "reproduce", "confirm", "list", "best", "compare", "report", "ui"),
    *("discard", "delete", "rename", "predict", "data", "summary", "sync", "doctor"),
)
HUGE = "99999999999999999999"
SECRET = "open.sesame"
STORE = "--tracking-uri sqlite:///{m}/mlflow.db"


@dataclass(frozen=True)
class Toml:
    """The file of a ``search --dry-run``."""

    content: str | bytes


Case = str | tuple[str, ...] | Toml  # a string is split at its spaces

FLAGS: list[Case] = [
    *((command, "--nonsense") for command in COMMANDS),
    "serch",
    ("search\x1b[31m",),
    "search one two",
    "search --units",
    "search --dry-run=3",
    "train",
    "reproduce",
    "search --dry-run --rnn lstm,lstm",
    "search --dry-run --rnn transformer",
    "search --dry-run --rnn ,",
    "search --dry-run --units 64-16",
    "search --dry-run --units 16-16",
    "search --dry-run --units 16-64:0",
    "search --dry-run --units 16-64:500",
    "search --dry-run --units 16-64:x1",
    "search --dry-run --units 16-64:x0",
    "search --dry-run --units 0-64:log",
    *(f"search --dry-run --units {units}" for units in ("0", "-5", "1e30", HUGE)),
    *(f"search --dry-run --units {units}" for units in ("nan", "inf", "1.5")),
    "search --dry-run --units 16,,32",
    "search --dry-run --units 16-32-64",
    "search --dry-run --units 1e400-1e500",
    "search --dry-run --units ٣٢",
    "search --dry-run --depth 9",
    "search --dry-run --maxlen 5001",
    "search demo --dry-run --space rnn_types",
    "search --resume --space demo",
    "search --dry-run --space dem",
    "search --dry-run --bidirectional maybe",
    "search --dry-run --pooling last,sum",
    "search --dry-run --dropout 0-1",
    "search --dry-run --word-dropout 1",
    ("search", "demo", "--dry-run", "--tuner", "tpe", "--try", "rnn=gru units"),
    ("search", "demo", "--dry-run", "--tuner", "tpe", "--try", "rnn=gru units=77"),
    ("search", "demo", "--dry-run", "--tuner", "tpe", "--try", "colour=red"),
    "search demo --dry-run --tuner grid --try rnn=gru",
    "search demo --dry-run --tuner tpe --require units>4000",
    "search demo --dry-run --tuner tpe --require best_val_loss<9",
    ("search", "demo", "--dry-run", "--require", "units>4000 and train_seconds<9"),
    ("search", "demo", "--dry-run", "--tuner", "tpe", "--require", "units<"),
    "search demo --dry-run --tuner hyperband --try units=4",
    "search demo --dry-run --tuner random --learn-from auto",
    "search --dry-run --until-flat -1",
    "search demo --dry-run --deadline soon",
    "search demo --dry-run --deadline 25:00",
    "search demo --dry-run --deadline 30s",
    "search demo --dry-run --deadline 2020-01-01T12:00",
    Toml('[tuner]\nkind = "tpe"\ntry = 3'),
    "search --dry-run --batch-size 0",
    "search --dry-run --optimizer adagrad",
    "search --dry-run --learning-rate 0",
    "search --dry-run --objective accuracy",
    "search --dry-run --objective val_accuracy,weights",
    "search --dry-run --objective val_accuracy,",
    "search --dry-run --objective parameter_count",
    "search --dry-run --objective train_seconds,val_accuracy",
    "search --dry-run --objective val_accuracy,val_accuracy",
    "search --dry-run --objective val_loss,train_seconds,train_seconds",
    *(
        f"search --dry-run --tuner {kind} --objective val_accuracy,parameter_count"
        for kind in ("bayesian", "hyperband", "gp", "cmaes")
    ),
    "search --dry-run --patience -1",
    "search --dry-run --tuner greedy",
    "search --dry-run --prune medium",
    "search --dry-run --tuner hyperband --prune median",
    *(f"search --dry-run --folds {folds}" for folds in ("1", "-3", "101", "two")),
    "search --dry-run --tuner hyperband --folds 3",
    "search --dry-run --folds 3 --executions 2",
    "search --dry-run --folds 3 --set space.soft_labels=0,0.3",
    "search --data demo --folds 7 --reviews 12 --max-trials 1 " + STORE,
    "search --dry-run --max-trials -1",
    "search --dry-run --max-trials 1e30",
    "search --dry-run --max-minutes nan",
    "search --dry-run --max-minutes inf",
    "search --dry-run --max-minutes -1",
    "search --dry-run --epochs 0",
    "search --dry-run --epochs 1.5",
    f"search --dry-run --epochs {HUGE}",
    "search --dry-run --executions 0",
    "search --dry-run --trial-timeout soon",
    "search --dry-run --trial-timeout -1",
    "search --dry-run --trial-timeout nan",
    "search --dry-run --retries 101",
    "search --dry-run --retries 1.5",
    "search --dry-run --seed -1",
    "search --dry-run --seed 2147483648",
    "search --dry-run --reviews -1",
    "search --dry-run --reviews some",
    *(f"search --dry-run --workers {n}" for n in ("-1", "x", "1.5", HUGE)),
    "search --dry-run --compile maybe",
    "search --dry-run --keep-models -1",
    f"search --dry-run --keep-models {'9' * 5000}",
    f"search --dry-run --name {'x' * 251}",
    ("search", "--dry-run", "--name", "a\tb\x1b[2J"),
    ("search", "--dry-run", "--experiment", " "),
    ("search", "--dry-run", "--experiment", "\udcff"),
    "search --dry-run --data nonsense",
    "search --dry-run --data {m}/missing.npz",
    "search --dry-run --data ~no.body/imdb.npz",
    f"search --dry-run --data {'x' * 5000}.npz",
    "search --dry-run --resume",
    *(f"search --dry-run --label-at {text}" for text in ("4", "=4", ">=four", "=>4", ">=nan")),
    "search --dry-run --data demo --label-at >=4",
    "search --dry-run --data {m}/many.csv",
    "search --dry-run --data {m}/rare.csv",
    "search --dry-run --data {m}/stars.csv --set data.positive=5",
    "search --dry-run --class-weight equal",
    "search --dry-run --data {m}/stars.csv --label-at >=6",
    "search --dry-run --data {m}/stars.csv --label-column review --text-column date --label-at >=4",
    "data --data {m}/unnamed.csv",
    ("summary", "--set", "training.patience"),
    ("summary", "--set", "=3"),
    ("summary", "--set", ".=3"),
    ("summary", "--set", "training.=3"),
    ("summary", "--set", "training.patience="),
    ("summary", "--set", "training.patience=-1"),
    ("summary", "--set", "name.x=3"),
    ("summary", "--set", "a.b.c=3"),
    ("summary", "--set", "space.layers=3"),
    ("summary", "--set", "space.bidirectional=maybe"),
    ("summary", "--set", "space.learning_rate=0"),
    ("summary", "--set", "space.dropout=0-0.5:log"),
    ("summary", "--set", "space.learning_rate=1e-4-1e-2:1e-300"),
    ("summary", "--set", "space.learning_rate=1e-4-1e-2:x1.0000000001"),
    ("summary", "--set", "space.units=16,32"),
    "summary default",
    "train default",
    "train listing_6_23 --epochs 0",
    "train listing_6_23 --data nonsense",
    "compare --json --csv",
    *(f"best --at-least {text}" for text in ("0.9", "accuracy=0.9", "val_accuracy=nan")),
    "best --refit --at-least val_accuracy=0.9",
    "best --ensemble 2 --at-least test_accuracy=0.9",
    "best --junit x.xml",
    "compare --confirmed",
    "compare old --confirmed",
    "compare old new --confirmed --sort units",
    "compare old --junit x.xml",
    "compare old new --confirmed --junit {m}",
    "compare old new --confirmed --junit {m}/no/x.xml",
    "search --dry-run --junit {m}/no/x.xml",
    "search --dry-run --github-summary",
    *(f"compare --limit {n}" for n in ("0", "-1", "x", "1.5", HUGE)),
    *(f"ui --port {n}" for n in ("0", "-1", "x", "65536", HUGE)),
    "predict good",
    "predict --model {m}/export",
    "predict --model {m}/export good --json --csv",
    "predict --model {m}/export good --explain-html {m}/imdb.npz",
    "predict --model {m}/export good --explain-html {m}/no/x.html",
    f"predict --model {{m}}/export good --explain-html {'x' * 5000}",
    "predict --model {m}/export good --text-column body",
]

TOMLS: list[Case] = [
    Toml("[tuner"),
    Toml("name = 'a'\nname = 'b'"),
    Toml("[tuner]\nseed = 1\n[tuner]\nseed = 2"),
    Toml("name = 'a\x00'"),
    Toml(f"a = {'[' * 9999}"),
    Toml(f"a = {'9' * 9999}"),
    Toml("sed = 1"),
    Toml("[tunr]"),
    Toml('["\\u001b[31m"]'),
    Toml("[tuner]\nsed = 1"),
    Toml("[space]\nlayers = 1"),
    Toml("[space]\nunits = { maximum = 3 }"),
    Toml(f"[space]\nunits.{'a.' * 3000}a = 1"),
    Toml("tuner = 3"),
    Toml("[[tuner]]\nseed = 1"),
    Toml("name = ''"),
    Toml('name = "a\\u001b[31m"'),
    Toml("[tracking]\nexperiment = ''"),
    Toml('[tracking]\nuri = "x\\ny"'),
    Toml("[tracking]\nkeep_models = true"),
    Toml("[data]\nsource = ''"),
    Toml("[data]\nsource = ['imdb']"),
    Toml("[data]\nreviews = 'all'"),
    Toml("[tuner]\nkind = ['grid']"),
    Toml("[tuner]\nseed = 1e400"),
    Toml("[tuner]\nseed = nan"),
    Toml("[training]\nepochs = true"),
    Toml("[space]\nunits = []"),
    Toml("[space]\nunits = [[16]]"),
    Toml("[space]\nunits = [16, 16]"),
    Toml("[space]\nunits = 2020-01-01"),
    Toml("[space]\nunits = {}"),
    Toml("[space]\nunits = { min = 64, max = 16 }"),
    Toml("[space]\nunits = { min = 1, max = 9, step = 0 }"),
    Toml("[space]\nunits = { values = [8], when = { cells = 1 } }"),
    Toml("[space]\nunits = { values = [8], when = [] }"),
    Toml("[space]\nunits = { values = [8], when = { rnn = 'gru' } }"),
    Toml("[space]\nrnn = 'gru'\nunits = { values = [8], when = { rnn = [] } }"),
    Toml("[space]\nunits = { values = [8, 9], when = { units = 8 } }"),
    Toml(
        "[space]\nunits = { values = [8, 9], when = { depth = 1 } }\n"
        "depth = { values = [1, 2], when = { units = 8 } }"
    ),
    Toml(
        "[space]\nrnn = { values = ['lstm', 'gru'], when = { vocabulary = 5, units = 0 } }\n"
        "vocabulary = { min = 4, max = 100000 }\nunits = { min = 1, max = 2048 }"
    ),
    Toml("name = 'x'".encode("utf-16")),
    Toml("name = 'café'".encode("latin-1")),
    Toml(bytes(range(256))),
    "train nonsense",
    "train {m}",
    "train {m}/missing.toml",
    "train {m}/imdb.npz",
    "train {m}/imdb.npz/x.toml",
    ("train", "a\x1b[31mb"),
    ("train", "x" * 5000),
    "summary nonsense",
]

STORES: list[Case] = [
    *(
        f"{command} --tracking-uri {uri}"
        for command in ("best", "compare", "report", "ui", "search --resume", "search --dry-run")
        for uri in ("nonsense", "ftp://host/x")
    ),
    "train listing_6_23 --data {m}/imdb.npz --tracking-uri nonsense",
    "search --data {m}/imdb.npz --tracking-uri nonsense",
    "best --tracking-uri sqlite:///nowhere/mlflow.db",
    "best --tracking-uri sqlite:///",
    "best --tracking-uri sqlite://mlflow.db",
    "search --dry-run --tracking-uri sqlite:///:memory:",
    "best --tracking-uri sqlite:///{m}",
    "best --tracking-uri sqlite:///{m}/imdb.npz",
    "best --tracking-uri sqlite:///{m}/damaged.db",
    *(
        f"{command} --tracking-uri sqlite:///{{m}}/films.db"
        for command in ("best", "compare", "search --resume")
    ),
    f"best --tracking-uri sqlite:///{'x' * 5000}",
    "best --tracking-uri file:///{m}/nowhere",
    ("best", "--tracking-uri", "sqlite:///a\x1b[31m.db"),
    *(
        f"{command} --tracking-uri http://me:{SECRET}@127.0.0.1:{{port}}"
        for command in ("best", "report", "ui", "search --resume", "search --data {m}/imdb.npz")
    ),
    f"compare --tracking-uri postgresql://me:{SECRET}@127.0.0.1:{{port}}/db",
    f"compare --tracking-uri mysql+none://me:{SECRET}@127.0.0.1:{{port}}/db",
    f"compare --tracking-uri gopher://me:{SECRET}@127.0.0.1/db",
    *("best", "compare", "report", "ui", "search --resume", "best --export w"),
]

IDS: list[Case] = [
    "sync",
    ("sync", "a\x1b[31m\nb"),
    "sync --restore",
    "sync nonsense --restore",
    f"discard nonsense {STORE}",
    f"discard {'0' * 32} {STORE}",
    ("discard", "1", "--reason", "x" * 501, *STORE.split()),
    "discard 1 --undo --reason why",
    ("discard", "1", "--search", "a\x1b[31m\nb", *STORE.split()),
    *(
        (*f"{command} {STORE}".split(), *before, name)
        for command, before in (
            ("best", ["--search"]),
            ("compare", []),
            ("report", []),
            ("ui", []),
            ("search --resume", []),
        )
        for name in (
            *("nonsense", "0" * 32, "../../etc/passwd", 'it\'s "here" %_`'),
            *("a\x1b[31m\nb", "\udcff", "x" * 9000),
        )
    ),
    f"compare tiny nonsense {STORE}",
    f"reproduce nonsense {STORE}",
    ("reproduce", *STORE.split(), "a\x1b[31m\nb"),
    f"reproduce {{trial}} {STORE} --data nowhere.npz",
    f"reproduce {{trial}} {STORE} --data demo",
    *(
        (*f"compare {STORE}".split(), flag, value)
        for flag, values in (
            ("--where", ("cells=gru", "rnn = ", "rnn=gru\x1b[31m and", "units>many", "rnn>gru")),
            ("--where", ("__import__('os').system('true')", "(" * 9000)),
            ("--sort", ("score", "units:down", ",")),
            ("--columns", ("rnn,cells",)),
        )
        for value in values
    ),
    f"report {STORE} --out {{m}}",
    f"report {STORE} --out {{m}}/imdb.npz",
    f"report {STORE} --out {{m}}/imdb.npz/x.html",
    f"report {STORE} --out {'x' * 5000}",
    f"report {STORE} --out /proc/report.html",
    *(f"{command} --tracking-uri sqlite:///{{m}}/odd.db" for command in ("best", "compare")),
    f"best --search {{trial}} {STORE}",
    f"search --resume tiny {STORE}",
    f"best {STORE} --export {{m}}/imdb.npz",
    f"best {STORE} --export {{m}}/imdb.npz/new",
    f"best {STORE} --export {{m}}",
    f"best {STORE} --export {{m}} --overwrite",
    f"best {STORE} --export {{m}}/export",
    f"best {STORE} --json --export {{m}}/export",
    f"best {STORE} --json --export {'x' * 5000}",
    (*f"best {STORE} --export".split(), ""),
    f"best tiny --search tiny {STORE}",
    f"compare {STORE} --require-match",
    f"best {STORE} --export new --format onxn",
    f"best {STORE} --export new --format keras,",
    f"best {STORE} --format onnx",
    *(f"best {STORE} --refit --seed={n}" for n in ("-1", "x", "1.5", HUGE)),
    *(f"best {STORE} --ensemble={n}" for n in ("0", "1", "-3", "x", HUGE)),
    f"best {STORE} --seed 3",
    f"best {STORE} --with-linear",
    *(
        f"confirm {STORE} --{flag}={n}"
        for flag in ("top", "seeds")
        for n in ("0", "-1", "x", "nan", HUGE)
    ),
    f"confirm {STORE} --margin nan",
    f"confirm {STORE} --margin -1",
    f"confirm nonsense {STORE}",
    f"delete nonsense {STORE}",
    f"delete tiny --undo {STORE}",
    f"rename nonsense new {STORE}",
    (*f"rename tiny {STORE}".split(), ""),
    (*f"rename tiny {STORE}".split(), "a\x1b[31m"),
    f"best {STORE} --register a/b",
    (*f"best {STORE} --register".split(), " "),
    (*f"best {STORE} --register".split(), "a\x1b[31m"),
    (*f"predict {STORE} --model".split(), "models:/no@champion", "good"),
    (*f"predict {STORE} --model".split(), "runs:/0/model", "good"),
    (*f"predict {STORE} --model".split(), "models:/a\x1b[31m", "good"),
    "predict --model models:/reviews@champion good",
]

DATA: list[Case] = [
    "data --data nonsense",
    "data --data {m}",
    "data --data {m}/missing.csv",
    "data --data {m}/missing.parquet",
    "data --data {m}/missing.npz",
    "data --data ~no.body/imdb.npz",
    ("data", "--data", "a\x1b[31m.npz"),
    "data --data {m}/folder.npz",
    "data --data {m}/imdb.npz --cache {m}/imdb.npz",
    "data --data demo --cache {m}/imdb.npz",
    f"data --data demo --cache {'x' * 5000}",
    *(
        f"{command} {{m}}/{name}.npz"
        for command in (
            *("data --data", "search --data", "search --dry-run --data"),
            "train listing_6_23 --data",
        )
        for name in CORPORA
    ),
]

EXPORTS: list[Case] = [
    "predict --model nonsense good",
    "predict --model {m}/imdb.npz good",
    ("predict", "--model", "a\x1b[31m", "good"),
    "predict --model {m}/no_metadata good",
    "predict --model {m}/broken_json good",
    "predict --model {m}/list_json good",
    "predict --model {m}/other_format good",
    "predict --model {m}/later_version good",
    "predict --model {m}/huge_maxlen good",
    "predict --model {m}/no_words good",
    "predict --model {m}/word_list good",
    "predict --model {m}/word_texts good",
    "predict --model {m}/no_model good",
    "predict --model {m}/cut_model good",
    "predict --model {m}/climbing good",
    "predict --model {m}/absolute good",
    "predict --model {m}/not_keras good",
    "predict --model {m}/export --format onnx good",
    "predict --model {m}/no_formats good",
    "predict --model {m}/export --file {m}/missing.csv",
    f"predict --model {{m}}/export --file {'x' * 5000}",
    f"predict --model {'x' * 5000} good",
    "predict --model {m}/export --file {m}/missing.txt",
    "predict --model {m}/export --file {m}",
    "predict --model {m}/export --file {m}/imdb.npz --text-column x",
]

# Pipes would be waited for, and devices be read without end.
NO_FILES: list[Case] = [
    *(
        f"{command} {{m}}/{kind}.{ending}"
        for kind in KINDS
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
        f"{command} --tracking-uri sqlite:///{{m}}/{kind}.db"
        for kind in KINDS
        for command in ("best", "compare", "search --data {m}/imdb.npz")
    ),
    *(
        f"predict --model {{m}}/{kind}_{name} good"
        for kind in KINDS
        for name in ("metadata", "vocabulary", "model", *WEIGHTS)
    ),
    *(f"data --data {{m}}/{kind}_words/imdb.npz" for kind in KINDS),
    "data --data {m}/pipe_review",
    "data --data {m}/folder.csv",
    "data --data {m}/device_words",
    "search --dry-run --data {m}/folder.npz",
    "predict --model {m}/metadata_pipe/metadata.json good",
    f"best {STORE} --export {{m}}/pipe.txt",
]

GROUPS = {
    "flags": FLAGS,
    "toml files": TOMLS,
    "tracking stores": STORES,
    "names and ids": IDS,
    "reviews": DATA,
    "exports": EXPORTS,
    "no regular files": NO_FILES,
}
