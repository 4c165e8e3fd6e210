"""The least that an API on this stack can do: Starlette's own JSON of a dict, without authentication or storage."""

from typing import Any

import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.bench.floors.bare import serve_bare


async def main() -> None:
    """Serves; answers with what was put before."""
    shown: dict[str, Any] = {}

    async def put(request: Request) -> Response:
        shown[request.path_params["name"]] = await request.json()
        return Response(status_code=204)

    async def get(request: Request) -> Response:
        return JSONResponse(shown[request.path_params["name"]])

    async def change(request: Request) -> Response:
        if request.method == "DELETE":
            return Response(status_code=204)
        await request.json()
        return JSONResponse(shown[request.path_params["name"]], status_code=201 if request.method == "POST" else 200)

    routes = [
        Route("/shown/{name}", put, methods=["PUT"]),
        Route("/shown/{name}", get, methods=["GET"]),
        Route("/change/{name}", change, methods=["POST", "PUT", "DELETE"]),
    ]
    await serve_bare(routes)


if __name__ == "__main__":
    uvloop.run(main())
