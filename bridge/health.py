"""What platforms ask: is the process up?"""

from flask import Blueprint, Response

routes = Blueprint("health", __name__)


@routes.get("/health", provide_automatic_options=False)
def health() -> Response:
    """Say that this process answers, without asking anybody else."""
    return Response("ok", mimetype="text/plain")
