"""What went wrong, from the messages of errors of TensorFlow and Keras."""

from __future__ import annotations

import re

from imdbtune.files import is_disk_full

# What TensorFlow 2.21 and Keras 3.15 put before the cause: headings and a call stack. The cause
# itself may be indented by two spaces, behind its number among several.
_BEFORE_CAUSE = re.compile(
    r"\s*$|Graph execution error:|Detected at node |<stack traces unavailable>|  File |    |\t"
    r"|\d+ root error\(s\) found|Exception encountered when calling "
)
_DECORATION = re.compile(r"\{\{function_node .*?\}\}|\x1b\[\d*m|^  \(\d+\) ")


def cause_of(error: BaseException) -> str:
    """Return the line of an error's message that says what went wrong; empty if it has no text."""
    lines = str(error).splitlines()
    causes = [line for line in lines if not _BEFORE_CAUSE.match(line)]
    line = next(iter(causes or filter(str.strip, lines)), "")
    return _DECORATION.sub("", line).strip()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory ran out."""
    if isinstance(error, MemoryError):
        return True
    # Compared by name: importing TensorFlow for the class would take seconds. TensorFlow raises it
    # for a full disk, too.
    return type(error).__name__ == "ResourceExhaustedError" and not is_disk_full(error)
