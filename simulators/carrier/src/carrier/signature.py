"""How webhooks are signed: base64(HMAC-SHA1(token, URL followed by the sorted parameters))."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping


def signature(token: str, url: str, form: Mapping[str, str]) -> str:
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()
