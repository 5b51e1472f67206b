"""Keras Tuner's oracles are to be had without TensorFlow, and disturb nobody who wants the rest."""

import subprocess
import sys


def ask(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_oracles_answer_without_keras_and_tensorflow() -> None:
    code = """
import sys
from imdbtune.config import parse_config
from imdbtune.oracles import make_oracle
for kind in ("random", "grid", "bayesian", "hyperband"):
    table = {"space": {"units": [8, 16], "depth": {"min": 1, "max": 3}}, "tuner": {"kind": kind}}
    values = make_oracle(parse_config(table)).create_trial("tuner").hyperparameters.values
    print(values["units"] in (8, 16), values["depth"] in (1, 2, 3))
print([name for name in ("keras", "tensorflow", "keras_tuner") if name in sys.modules])
"""
    assert ask(code).splitlines() == ["True True"] * 4 + ["[]"]


def test_only_bayesian_search_waits_for_scikit_learn() -> None:
    code = """
import sys
from imdbtune.config import parse_config
from imdbtune.oracles import make_oracle
for kind in ("random", "grid", "hyperband", "bayesian"):
    make_oracle(parse_config({"space": {"units": [8, 16]}, "tuner": {"kind": kind}}))
    print(kind, [name for name in ("sklearn", "scipy") if name in sys.modules])
"""
    without = [f"{kind} []" for kind in ("random", "grid", "hyperband")]
    assert ask(code).splitlines() == [*without, "bayesian ['sklearn', 'scipy']"]


def test_the_whole_of_both_packages_is_to_be_had_afterwards() -> None:
    code = """
from imdbtune.tuner_library import keras_tuner
ours = keras_tuner()
import keras, keras_tuner as whole
from keras_tuner.src.engine.tuner_utils import TunerCallback
print(ours is whole, issubclass(TunerCallback, keras.callbacks.Callback))
"""
    assert ask(code) == "False True"


def test_where_keras_is_there_already_it_is_the_package_itself() -> None:
    code = """
import keras, keras_tuner as whole
from imdbtune.tuner_library import keras_tuner
print(keras_tuner() is whole)
"""
    assert ask(code) == "True"
