"""REST, as the commands use it: an answer, or a failure that reads as one sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from cli.exits import Failure, Unavailable
from cli.found import Parley

Answer = dict[str, Any]

_BETWEEN = 0.2


class Refused(Failure):
    """A service said no, with a problem document."""

    def __init__(
        self, service: str, status: int, problem: Mapping[str, Any], options: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.problem = problem
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        super().__init__(_sentence(service, status, problem, options or {}))


def _sentence(
    service: str, status: int, problem: Mapping[str, Any], options: Mapping[str, str] | None = None
) -> str:
    title = str(problem.get("title") or f"status {status}").rstrip(".")
    detail = str(problem.get("detail") or "").strip()
    if str(problem.get("type", "")).endswith(":invalid-request"):
        detail = _as_typed(detail, options or {})
    if detail.startswith("There is no "):
        return f"{service}: {detail}"
    return f"{service}: {title}: {detail}" if detail else f"{service}: {title}."


def _as_typed(faults: str, options: Mapping[str, str]) -> str:
    """Whoever typed a command knows nothing of bodies and queries, and of fields by their options."""
    faults = re.sub(r"(^|; )(?:body|query|path)\.", r"\1", faults)
    for place, option in options.items():

        def typed(found: re.Match[str], option: str = option) -> str:
            inside = [step for step in found["inside"].split(".") if step and not step.isdigit()]
            return f"{found['before']}{' '.join([option, *inside])}: "

        faults = re.sub(rf"(?P<before>^|; ){re.escape(place)}(?P<inside>(?:\.[^:; ]*)?): ", typed, faults)
    return faults


_LISTS = {"campaign": ("campaigns", "/v1/campaigns"), "contact type": ("contacts", "/v1/contact-types")}


def unknown(api: Api, kind: str, named: str) -> Failure:
    """That there is none of this code, and which there are."""
    codes = sorted(each["code"] for each in api.pages(*_LISTS[kind]))
    return Failure(f"There is no {kind} {named!r}; there are: {', '.join(codes) or 'none yet'}.")


class Api:
    """The REST interfaces of one running Parley.

    patience: seconds for which a call is repeated while its service does not answer. That is safe: a POST
    carries its Idempotency-Key again, and everything else may be repeated anyway.
    options: the option of the command that each field of a request comes from, for refusals.
    """

    def __init__(
        self,
        parley: Parley,
        timeout: float = 60.0,
        patience: float = 0.5,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.parley = parley
        self._options = options
        self._patience = patience
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=5.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, service: str, path: str, **params: Any) -> Any:
        return self._ask(service, "GET", path, params=_given(params))

    def post(
        self, service: str, path: str, body: object = None, *, key: str | None = None, **params: Any
    ) -> Any:
        """`key`: the Idempotency-Key; repeating a call with the same key gives the first answer again."""
        headers = {"Idempotency-Key": key or str(uuid4())}
        return self._ask(service, "POST", path, json=body, headers=headers, params=_given(params))

    def put(self, service: str, path: str, body: object, **params: Any) -> Any:
        return self._ask(service, "PUT", path, json=body, params=_given(params))

    def send(
        self, service: str, path: str, content: Any, content_type: str, *, key: str, **params: Any
    ) -> Any:
        """A body that is not JSON; may be an iterator, which is streamed."""
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        return self._ask(service, "POST", path, content=content, headers=headers, params=_given(params))

    def pages(self, service: str, path: str, limit: int | None = None, **params: Any) -> Iterator[Answer]:
        """Every item of a paged list, or the first `limit`."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = min(left or 1000, 1000)
            page = self.get(service, path, limit=size, cursor=cursor, **params)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def text(self, service: str, path: str, *, names: Sequence[str] = ()) -> str:
        """`names`: of the metrics wanted; without any, all."""
        return self._answer(service, "GET", path, params={"name[]": list(names)}).text

    def _ask(self, service: str, method: str, path: str, **request: Any) -> Any:
        answer = self._answer(service, method, path, **request)
        if answer.status_code == 204 or not answer.content:
            return None
        return answer.json()

    def _answer(self, service: str, method: str, path: str, **request: Any) -> httpx.Response:
        repeatable = isinstance(request.get("content", b""), bytes)
        deadline = time.monotonic() + (self._patience if repeatable else 0)
        while True:
            try:
                return self._once(service, method, path, **request)
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_BETWEEN)

    def _once(self, service: str, method: str, path: str, **request: Any) -> httpx.Response:
        url = self.parley.url(service)
        try:
            answer = self._client.request(method, f"{url}{path}", **request)
        except httpx.InvalidURL as error:
            raise Unavailable(f"The address of {service} is not a URL: {url!r}.") from error
        except httpx.ConnectError as error:
            raise Unavailable(
                f"The {service} service does not answer at {url}; is `parley up` running, or is it elsewhere "
                f"(--against {service}=URL)?"
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"The {service} service at {url} did not answer in time; try again.") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"The connection to {service} at {url} broke; try again.") from error
        if answer.is_success:
            return answer
        if answer.status_code == 503:
            raise Unavailable(_sentence(service, 503, _problem(answer)))
        refused = Refused(service, answer.status_code, _problem(answer), self._options)
        if refused.kind == "in-progress":
            # Our own call, asked again after its connection broke: the answer is not there yet.
            raise Unavailable(str(refused))
        raise refused


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {"title": f"HTTP status {answer.status_code}"}
    return document if isinstance(document, dict) else {}


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
