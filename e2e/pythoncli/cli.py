"""A command line program for an API that says itself where to sign in.

    python3 cli.py login|whoami|refresh|logout URL

It knows the API's URL and its own client id, and learns the rest: from the
API's 401 where its metadata is (RFC 9728), from that who signs people in, and
from there how (OpenID Connect Discovery). Then it does the device grant
(RFC 8628) with PKCE (RFC 7636). Tokens are in $MY_CLI_HOME/tokens.json, by API.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import secrets
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

CLIENT_ID = "my-cli"
TIMEOUT = 30  # seconds, for each request
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Failure(Exception):
    """An end of the program, in words for the person."""


class Unreachable(Failure):
    """No answer came: asking again may help."""


class Answer(NamedTuple):
    status: int
    challenge: str  # WWW-Authenticate
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            members = json.loads(self.body)
        except ValueError:
            members = None
        if not isinstance(members, dict):
            raise Failure(f"This answer (status {self.status}) is not the JSON that was asked for.")
        return members


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take tokens to wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def ask(url: str, form: dict[str, str] | None = None, token: str = "") -> Answer:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    if form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    if token:
        request.add_header("Authorization", "Bearer " + token)
    try:
        try:
            response = OPENER.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            response = error  # an answer too, of another status than 2xx
        with response:
            challenge = ", ".join(response.headers.get_all("WWW-Authenticate", []))
            return Answer(response.status, challenge, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{urllib.parse.urlsplit(url).netloc} cannot be reached: {error}") from error


def good(answer: Answer, doing: str) -> dict[str, Any]:
    members = answer.json()
    if answer.status != 200:
        raise Failure(f"{doing} was refused: {members.get('error', answer.status)}")
    return members


class Server(NamedTuple):
    """The API's authorization server, and what to ask it for."""

    metadata: dict[str, Any]
    scopes: list[str]


def discover(api: str) -> Server:
    named = re.search(r'\bresource_metadata="([^"]+)"', ask(api).challenge)  # RFC 9728 §5.1
    if named is None:
        raise Failure(f"{api} does not say where to sign in.")
    resource = good(ask(named[1]), "The API's metadata")
    if resource.get("resource") != api:  # RFC 9728 §3.3
        raise Failure(f"The metadata is not that of {api}.")
    issuer = resource["authorization_servers"][0]
    metadata = good(ask(issuer + "/.well-known/openid-configuration"), "Discovery")
    if metadata.get("issuer") != issuer:  # OpenID Connect Discovery §4.3
        raise Failure(f"The authorization server does not call itself {issuer}.")
    return Server(metadata, resource.get("scopes_supported", []))


def login(api: str) -> None:
    server = discover(api)
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    device = good(
        ask(
            server.metadata["device_authorization_endpoint"],
            {
                "client_id": CLIENT_ID,
                "scope": " ".join(server.scopes),
                "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
                "code_challenge_method": "S256",
            },
        ),
        "The sign-in",
    )
    print(f"Open {device['verification_uri']} and enter the code {device['user_code']}", flush=True)
    tokens = poll(server.metadata["token_endpoint"], device, verifier)
    for endpoint in "token_endpoint", "revocation_endpoint":
        tokens[endpoint] = server.metadata[endpoint]
    save(api, tokens)
    print("Signed in.")


def poll(endpoint: str, device: dict[str, Any], verifier: str) -> dict[str, Any]:
    """Asks for the tokens until the person has decided (RFC 8628 §3.4, §3.5)."""
    form = {
        "grant_type": DEVICE_GRANT,
        "client_id": CLIENT_ID,
        "device_code": device["device_code"],
        "code_verifier": verifier,
    }
    interval = device.get("interval", 5)
    end = time.monotonic() + device["expires_in"]
    while time.monotonic() + interval < end:
        time.sleep(interval)
        try:
            answer = ask(endpoint, form)
        except Unreachable:
            interval *= 2
            continue
        if answer.status == 200:
            return answer.json()
        error = answer.json().get("error")
        if error == "slow_down":
            interval += 5
        elif error == "access_denied":
            raise Failure("The sign-in was declined.")
        elif error == "expired_token":
            break
        elif error != "authorization_pending":
            raise Failure(f"The sign-in failed: {error}")
    raise Failure("The code has expired. Start again.")


def whoami(api: str) -> None:
    answer = ask(api, token=load(api)["access_token"])
    if answer.status == 401 and 'error="invalid_token"' in answer.challenge:  # RFC 6750 §3.1
        answer = ask(api, token=renew(api)["access_token"])
    if answer.status == 403:
        raise Failure("You are signed in, but not allowed to use this.")
    # this API answers with the request as it came to it
    print(good(answer, "The request")["header"]["Remote-User"][0])


def refresh(api: str) -> None:
    renew(api)
    print("Refreshed.")


def renew(api: str) -> dict[str, Any]:
    tokens = load(api)
    form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": tokens["refresh_token"]}
    # whatever is not in the answer stays as it was, the refresh token too (RFC 6749 §6)
    tokens |= good(ask(tokens["token_endpoint"], form), "The refresh")
    save(api, tokens)
    return tokens


def logout(api: str) -> None:
    """Revokes the refresh token (RFC 7009), then forgets all tokens."""
    tokens = load(api)
    form = {"client_id": CLIENT_ID, "token": tokens["refresh_token"], "token_type_hint": "refresh_token"}
    if ask(tokens["revocation_endpoint"], form).status != 200:
        raise Failure("The tokens could not be revoked.")
    save(api, None)
    print("Signed out.")


def tokens_file() -> Path:
    return Path(os.environ["MY_CLI_HOME"]) / "tokens.json"


def read_all() -> dict[str, Any]:
    try:
        return json.loads(tokens_file().read_text())
    except FileNotFoundError:
        return {}


def load(api: str) -> dict[str, Any]:
    """The tokens that were got for this API; no other sees them."""
    tokens = read_all().get(api)
    if tokens is None:
        raise Failure(f"You are not signed in to {api}.")
    return tokens


def save(api: str, tokens: dict[str, Any] | None) -> None:
    """Replaces the file as a whole; mkstemp makes one that only its owner reads."""
    everything = read_all()
    everything.pop(api, None)
    if tokens is not None:
        everything[api] = tokens
    tokens_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=tokens_file().parent)
    with open(handle, "w") as file:
        json.dump(everything, file)
    os.replace(name, tokens_file())


COMMANDS = {"login": login, "whoami": whoami, "refresh": refresh, "logout": logout}


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    command, url = arguments
    try:
        COMMANDS[command](url.rstrip("/"))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
