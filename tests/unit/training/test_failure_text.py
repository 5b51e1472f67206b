"""The cause of an error, from messages as TensorFlow 2.21 and Keras 3.15 write them."""

from __future__ import annotations

import errno
import os

import pytest
import tensorflow as tf

from imdbtune.files import is_disk_full
from imdbtune.training.failure_text import cause_of, is_out_of_memory

STACK = """Graph execution error:

Detected at node StatefulPartitionedCall defined at (most recent call last):
  File "/usr/lib/python3/keras/src/utils/traceback_utils.py", line 117, in error_handler

  File "/usr/lib/python3/keras/src/backend/tensorflow/trainer.py", line 399, in fit

"""
HIDDEN_STACKS = """Graph execution error:

Detected at node A defined at (most recent call last):
<stack traces unavailable>
Detected at node B defined at (most recent call last):
<stack traces unavailable>
"""


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("", ""),
        ("\n \n", ""),
        ("no\nyes", "no"),
        ("\n  [Op:__inference_f_70]", "[Op:__inference_f_70]"),
        (f"{STACK}Key does not match.\n\t [[{{{{node A}}}}]] [Op:B]", "Key does not match."),
        (f"{HIDDEN_STACKS}ValueError: bad\nTraceback (most ...):\n\n  File", "ValueError: bad"),
        (f"{HIDDEN_STACKS}2 root error(s) found.\n  (0) INTERNAL: no\n\t [[", "INTERNAL: no"),
        ("{{function_node __wrapped__A_device_/job:0}} OOM when allocating", "OOM when allocating"),
        ("Exception encountered when calling Dense.call().\n\n\x1b[1mno\x1b[0m\n\nArgs", "no"),
        ("Graph execution error:\n\n", "Graph execution error:"),
    ],
)
def test_the_cause_comes_behind_headings_and_stacks(message: str, cause: str) -> None:
    assert cause_of(ValueError(message)) == cause


def test_a_real_error_in_a_graph_has_its_cause() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        tf.function(tf.strings.to_number)(tf.constant("seven"))
    assert "convert string: seven" in cause_of(raised.value)


def test_a_full_disk_is_no_lack_of_memory() -> None:
    no_room = f"{STACK}/cache/a.pb.tmp; {os.strerror(errno.ENOSPC)}\n\t [[{{{{node A}}}}]]"
    full = tf.errors.ResourceExhaustedError(None, None, no_room)
    assert is_disk_full(full)
    assert not is_out_of_memory(full)
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    assert not is_disk_full(memory)
    assert is_out_of_memory(memory)
    assert is_out_of_memory(MemoryError())
