"""The page /docs, from files that the process serves itself: a closed network has no CDN."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PAGE = "/docs"
_FILES = f"{PAGE}/files"


def serve_reference(app: FastAPI) -> None:
    app.mount(_FILES, StaticFiles(packages=[("fastapi_offline", "static")]))

    @app.get(PAGE, include_in_schema=False)
    async def reference() -> HTMLResponse:
        # Relative, so that it is found behind a proxy that puts something in front of the paths.
        files = _FILES.removeprefix("/")
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=f"{files}/swagger-ui-bundle.js",
            swagger_css_url=f"{files}/swagger-ui.css",
            swagger_favicon_url=f"{files}/favicon.png",
            oauth2_redirect_url=None,
            swagger_ui_parameters={"validatorUrl": None},  # a service of somebody else's, on the internet
        )
