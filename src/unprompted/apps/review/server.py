"""The routes of the review page; each one checks, calls one thing, answers."""

import gzip
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from unprompted.apps.review.cohort import OpenCase
from unprompted.apps.review.review import Review
from unprompted.apps.review.safety import HEADERS, body_of, is_allowed, is_asked_by_name
from unprompted.apps.review.store import StaleVersion
from unprompted.errors import UnpromptedError

_STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MOST_SLICES = 4096  # in one answer

Key = Annotated[str, InPath(pattern="^[0-9a-f]{16}$")]
Number = Annotated[int, InPath(ge=0, le=10**7)]
Version = Annotated[str, Header(alias="If-Match", pattern='^"[0-9]{1,12}"$')]


class Decision(BaseModel):
    """What a reader decided about a case."""

    status: str


def application(review: Review, host: str, token: str | None) -> FastAPI:
    """The review page of one output folder as a web application.

    Args:
        review: what is reviewed.
        host: the address it is served at.
        token: what every request for data must bring, None for none.
    """
    app = FastAPI(title="unprompted review", docs_url=None, redoc_url=None, openapi_url=None)
    _guard(app, host, token)
    _answer_errors(app, review)
    _serve_page(app)
    _serve_cases(app, review)
    _serve_writes(app, review)
    return app


def _guard(app: FastAPI, host: str, token: str | None) -> None:
    @app.middleware("http")
    async def guarded(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if not is_asked_by_name(request, host):
            answer: Response = JSONResponse({"error": "this server is called by another name"}, 421)
        elif request.url.path.startswith("/api/") and not is_allowed(request, token):
            answer = JSONResponse({"error": "a token is needed, and this is not it"}, 401)
        else:
            answer = await go_on(request)
        answer.headers.update(HEADERS)
        return answer


def _answer_errors(app: FastAPI, review: Review) -> None:
    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return JSONResponse({"error": f"the request is malformed: {wrong}"}, 400)

    @app.exception_handler(StaleVersion)
    async def stale(request: Request, error: StaleVersion) -> Response:
        return JSONResponse({"error": str(error), "state": _state(error.state)}, 412)

    @app.exception_handler(UnpromptedError)
    async def refused(request: Request, error: UnpromptedError) -> Response:
        return JSONResponse({"error": review.without_folders(str(error))}, 409)

    @app.exception_handler(HTTPException)
    async def answered(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code)


def _serve_page(app: FastAPI) -> None:
    files = {file.name: file.read_bytes() for file in _STATIC.iterdir() if file.suffix in _TYPES}

    @app.get("/")
    async def page() -> Response:
        return Response(files["index.html"], media_type="text/html")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        return Response(files[name], media_type=_TYPES[Path(name).suffix])


def _serve_cases(app: FastAPI, review: Review) -> None:
    def case_of(key: Key) -> OpenCase:
        return review.opened(known(key))

    def known(key: str) -> str:
        if key not in review.store.names:
            raise HTTPException(404, "there is no such case")
        return key

    @app.get("/api/review")
    def overview() -> Any:
        return review.overview()

    @app.get("/api/suggest")
    def suggested() -> Any:
        return review.suggestions()

    @app.get("/api/cases/{key}")
    def case(key: Key) -> Any:
        return review.describe(known(key))

    @app.get("/api/cases/{key}/image/{first}/{count}")
    def image(first: Number, count: Number, case: Annotated[OpenCase, Depends(case_of)]) -> Response:
        part = case.wire.voxels[first : first + min(count, _MOST_SLICES)]
        return Response(np.ascontiguousarray(part).tobytes(), media_type="application/octet-stream")

    @app.get("/api/cases/{key}/labels/{first}/{count}")
    def labels(first: Number, count: Number, case: Annotated[OpenCase, Depends(case_of)]) -> Response:
        part = case.labels.labels[first : first + min(count, _MOST_SLICES)]
        packed = gzip.compress(np.ascontiguousarray(part).tobytes(), compresslevel=1, mtime=0)
        packing = {"Content-Encoding": "gzip"}
        return Response(packed, media_type="application/octet-stream", headers=packing)

    @app.get("/api/jobs/{key}")
    async def job(key: Key) -> Any:
        found = review.jobs.get(key)
        if found is None:
            raise HTTPException(404, "there is no such job; the server may have been started anew")
        return asdict(found) | {"error": review.without_folders(found.error)}


def _serve_writes(app: FastAPI, review: Review) -> None:
    def known(key: Key) -> str:
        if key not in review.store.names:
            raise HTTPException(404, "there is no such case")
        return key

    Case = Annotated[str, Depends(known)]  # noqa: N806

    @app.put("/api/cases/{key}/slices/{number}")
    async def correct(request: Request, number: Number, case: Case, version: Version) -> Any:
        opened = await run_in_threadpool(review.opened, case)
        depth, *shape = opened.labels.labels.shape
        if number >= depth:
            raise HTTPException(404, f"the case has {depth} slices")
        kind = opened.labels.labels.dtype
        content = await body_of(request, int(np.prod(shape)) * kind.itemsize)
        labels: Any = np.frombuffer(content, kind.newbyteorder("<")).reshape(shape).astype(kind)
        state = await run_in_threadpool(review.correct, case, number, labels, _number(version))
        return _state(state)

    @app.post("/api/cases/{key}/status")
    def decide(decision: Decision, case: Case, version: Version) -> Any:
        return _state(review.store.set_status(case, decision.status, _number(version)))

    @app.post("/api/cases/{key}/segment")
    def segment(case: Case, x_requested_with: Annotated[str, Header()]) -> Any:
        return {"job": review.segment([case]).key}

    @app.post("/api/segment")
    def segment_all(x_requested_with: Annotated[str, Header()]) -> Any:
        return {"job": review.segment(review.still_open()).key}


def _state(state: Any) -> dict[str, Any]:
    content = asdict(state)
    return content | {"slices": {str(n): version for n, version in state.slices.items()}}


def _number(version: str) -> int:
    return int(re.sub(r"\D", "", version))
