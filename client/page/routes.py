"""Serves the page: three files as they are, and the warnings that stand in it from the start.

The warnings are written into the page here and not by its script: a page whose script did not run
must not look safer than one whose did.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from attestation.verifier.policy import ClientPolicy
from attestation.verifier.weakness import WARNINGS, Weakness
from client.trust import Trust

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing inline, nothing from elsewhere, and no text that could become markup by mistake."""

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Not in a cache on disk, and not in the one that "back" looks into.
    "cache-control": "no-store",
}

_FOLDER = Path(__file__).parent
_PLACE = "<!-- warnings -->"
_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
_HTML = (_FOLDER / "page.html").read_text("utf-8")
_FILES = {name: (_FOLDER / name).read_bytes() for name in _TYPES}

routes = APIRouter()


@routes.get("/")
async def page(request: Request) -> Response:
    """Show the page."""
    config = request.app.state.config
    text = _HTML.replace(_PLACE, warnings(config.trust, config.policy))
    return Response(text, headers=HEADERS, media_type="text/html")


@routes.get("/page.css")
@routes.get("/page.js")
@routes.get("/page.svg")
async def asset(request: Request) -> Response:
    """Serve what belongs to the page."""
    name = request.url.path.removeprefix("/")
    return Response(_FILES[name], headers=HEADERS, media_type=_TYPES[name])


def warnings(trust: Trust, policy: ClientPolicy) -> str:
    """Return the warnings of this proxy as markup; nothing where there is none to give."""
    loud = _simulated() if trust.simulated else ""
    others = sorted(policy.accepted_weaknesses - {Weakness.SIMULATED})
    items = "".join(f"<li><b>{escape(w)}</b>: {escape(WARNINGS[w])}</li>" for w in others)
    accepted = f"<p>This proxy accepts nodes with a weakness:</p><ul>{items}</ul>" if items else ""
    quiet = f'<section class="accepted" aria-label="Accepted weaknesses">{accepted}</section>'
    return loud + (quiet if accepted else "")


def _simulated() -> str:
    return (
        '<section class="simulated" aria-label="Warning"><strong>SIMULATED</strong>'
        "<p>These nodes run on ordinary hardware and make their evidence up. This shows how the "
        "path works; <em>it hides nothing from whoever owns the machine.</em></p></section>"
    )
