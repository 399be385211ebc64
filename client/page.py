"""The page at `GET /`: what this proxy is, and what it has verified, for a person to read."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
.warning { border: 3px solid #b00020; padding: .75rem 1rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
td, th { text-align: left; padding: .25rem .75rem .25rem 0; vertical-align: top; }
code { overflow-wrap: anywhere; }
.pass { color: #0a7d32; } .fail { color: #b00020; } .skip { color: #8a6d00; }
@media (prefers-color-scheme: dark) {
  .pass { color: #5fd38a; } .fail { color: #ff6b81; } .skip { color: #e0c050; }
  .warning { border-color: #ff6b81; }
}
"""


def render(verification: dict[str, Any]) -> HTMLResponse:
    """Render the verdicts as one page without scripts or outside assets."""
    parts = ["<h1>sottovoce</h1>", _warning(verification)]
    if verification["error"] is not None:
        parts.append(f'<p class="fail">{escape(verification["error"]["message"])}</p>')
    parts.append(
        f"<p>Point any OpenAI client at <code>/v1</code> of this address. "
        f"Tokens in the wallet: {verification['tokens']}. "
        f"Machine-readable verdicts: <a href='/verification'>/verification</a>.</p>"
    )
    parts += [_section(f"Node {n['node'][:16]}…", n["steps"]) for n in verification["nodes"]]
    parts += [_section(f"Answer {r['id']}", r["steps"]) for r in verification["requests"][:5]]
    document = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>sottovoce</title>'
        f"<style>{_STYLE}</style><body><main>{''.join(parts)}</main></body></html>"
    )
    return HTMLResponse(document, headers={"content-security-policy": CONTENT_SECURITY_POLICY})


def _warning(verification: dict[str, Any]) -> str:
    if not verification["simulated"]:
        return ""
    return (
        '<p class="warning" role="alert">SIMULATED: the nodes run on ordinary hardware with '
        "made-up evidence. Nothing here proves that a prompt is private.</p>"
    )


def _section(title: str, steps: list[dict[str, str]]) -> str:
    rows = "".join(
        f"<tr><td class='{escape(s['outcome'])}'>{escape(s['outcome'])}</td>"
        f"<td>{escape(s['step'])}</td><td>{escape(s['reason'])}</td></tr>"
        for s in steps
    )
    return (
        f"<h2><code>{escape(title)}</code></h2>"
        f"<table><tr><th>Outcome<th>Step<th>Reason</tr>{rows}</table>"
    )
