"""Headers of every answer: nothing of ours is to be cached, framed, guessed at or passed on.

Carriers read none of them. They are for whoever opens a URL of the bridge in a browser.
"""

from flask import Flask, Response

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
A_YEAR_S = 365 * 24 * 3600


def register(app: Flask, public_url: str) -> None:
    """Add them to every answer of the app that does not have them, errors included."""
    headers = dict(SECURITY_HEADERS)
    if public_url.startswith("https:"):
        headers["Strict-Transport-Security"] = f"max-age={A_YEAR_S}"

    @app.after_request
    def complete(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response
