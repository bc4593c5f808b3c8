"""Whether a webhook is what it says: base64(HMAC-SHA1(token, URL followed by the sorted parameters)).

Never raises for what a stranger sent.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence


def signature(token: str, url: str, form: Mapping[str, str]) -> bytes:
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1"))


def is_genuine(told: bytes | None, tokens: Sequence[str], url: str, form: Mapping[str, str]) -> bool:
    """Any of the tokens will do: during a rotation there are two."""
    if not told:
        return False
    return any(hmac.compare_digest(told, signature(token, url, form)) for token in tokens)
