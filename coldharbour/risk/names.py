"""The names under which orders are sent, their client_order_id: from facts alone, so that an order is found again."""

from __future__ import annotations

import hashlib

from coldharbour.destinations import MAX_SLUG_LENGTH

DIGEST_LENGTH = 32


def order_name(kind: str, destination: str, *facts: str, marks: str = "") -> str:
    """Return a name: the same for the same arguments, and another for any others.

    kind: what the order is for. destination: a slug. marks: what a reader is to see of the facts, such as "-e3-a1".
    The broker takes 128 characters.

    >>> order_name("flat", "paper", "KO")
    'flat-paper-849af174c5b12dfa88182220b80a3056'
    """
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{kind}-{destination[:MAX_SLUG_LENGTH]}{marks}-{digest}"
