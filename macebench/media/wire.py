"""What the decoder process and its parent say to each other.

Both directions are lines of JSON; pictures and samples go through shared memory, which is a ring of
equal slots. Parent to child: a request (``probe``, ``times``, ``frames``, ``audio``), then ``free`` for each slot
that has been copied, or ``stop``. Child to parent: ``ready`` once, then for each request any number of
``head`` and ``slot`` messages and exactly one ``end`` or ``error``. Every message carries the
number of its request, so that late ones of an abandoned request are recognised.
"""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]

N_SLOTS = 2
MAX_SLOT_BYTES = 128 * 2**20
SOUND_SLOT_BYTES = 2**20
MAX_LINE_BYTES = 2**20
OUT_OF_MEMORY = "decoder ran out of memory"


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line. Raises ValueError when it is none."""
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError("not a message")
    return message
