"""Routes of the scripted orchestrator about one running instance: live parameters and inquiries."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from manifests.errors import DocumentError
from orchestrator.api import schemas as s
from tests.support.console_backend.answers import problem, sse
from tests.support.console_backend.program import RefusedError
from tests.support.console_backend.scene import rfc
from tests.support.console_backend.sites import Plants

STREAM = "text/event-stream"


def running(app: FastAPI, plants: Plants, api: str) -> None:
    here = f"{api}/sites/{{site}}/instances/{{instance}}"

    @app.get(f"{here}/parameters", response_model=s.ParametersView)
    def read(site: str, instance: str) -> Any:
        if instance not in ("tank", "motors", "press", "pump-skid", "broker"):
            return problem(404, "Not Found", f"site {site} has no instance {instance!r}")
        return plants.parameters.view(instance)

    @app.put(f"{here}/parameters", response_model=s.ParametersView)
    def put(site: str, instance: str, body: s.ParametersRequest) -> Any:
        if not plants.scene.may_set:
            return problem(
                403, "Forbidden", "your role may only look", "an OT engineer of this site may set parameters"
            )
        if wrong := plants.parameters.put(instance, body):
            return problem(422, "The document is wrong", "; ".join(wrong))
        return plants.parameters.view(instance)

    async def answers(site: str, instance: str, body: s.InquiryRequest) -> AsyncIterator[s.AnswerView]:
        def view(media: str, value: Any) -> s.AnswerView:
            raw = base64.b64encode(value).decode() if isinstance(value, bytes) else None
            return s.AnswerView(
                id="q1", site=site, instance=instance, kind=body.kind, at=rfc(time.time()), media=media,
                value=None if raw else value, base64=raw,
            )  # fmt: skip

        if instance == "motors":
            async for media, value in plants.motor.answers(body.kind, body.arguments):
                yield view(media, value)
        elif body.kind == "watch":
            async for value in plants.tank.watch(body.arguments):
                yield view("application/json", value)
        else:
            yield view("application/json", plants.tank.answer(body.kind, body.arguments))

    @app.post(f"{here}/inquiries", response_model=None)
    async def ask(site: str, instance: str, body: s.InquiryRequest, request: Request) -> Any:
        plants.inquiries.append(body)
        if site in plants.scene.offline:
            return problem(503, "Service Unavailable", "edge-1 is not there: it has not asked for work for 11 min")
        found = answers(site, instance, body)
        if STREAM not in request.headers.get("accept", ""):
            try:
                return s.AnswerView.model_dump(await anext(found), mode="json", by_alias=True)
            except (DocumentError, RefusedError) as error:
                return problem(422, "Unprocessable Content", str(error))

        async def events() -> AsyncIterator[str]:
            reason, detail = "final", ""
            try:
                async for one in found:
                    yield sse("answer", one)
            except (DocumentError, RefusedError) as error:
                reason, detail = "refused", str(error)
            yield sse("end", s.InquiryEnd(id="q1", reason=reason, detail=detail))

        return StreamingResponse(events(), media_type=STREAM)
