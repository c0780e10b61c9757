"""This file signs a Python program in: requests sends the session key, and
where there is none, or it is over, a person is asked to approve on stderr, and
the request is made again.

    import requests
    from requests_device import DeviceAuth

    api = requests.Session()
    api.auth = DeviceAuth()
    print(api.get("https://api.example.com/report").text)

Keys are kept in ~/.local/state/device-auth/requests.json (mode 0600), one a
site, and are sent to that site alone. Threads that share a DeviceAuth share its
sign-in. It needs nothing but requests.
"""

import json
import os
import pathlib
import sys
import threading
import urllib.parse

import requests

STATE = pathlib.Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()


class NotSignedIn(requests.RequestException):
    """Nobody approved: declined, too late, or the wrong account."""


class DeviceAuth(requests.auth.AuthBase):
    def __init__(self, path=STATE / "device-auth" / "requests.json"):
        self.path = pathlib.Path(path)
        self.lock = threading.Lock()
        self.asked = {}  # how often a person was, by site
        try:
            self.keys = json.loads(self.path.read_text())
        except FileNotFoundError:
            self.keys = {}

    def __call__(self, request):
        site = origin(request.url)
        asked = self.asked.get(site, 0)
        if site in self.keys:
            request.headers["Authorization"] = self.bearer(site)
        # asks the gate for JSON, and leaves an upstream its choice
        request.headers["Accept"] = request.headers.get("Accept", "*/*") + ", application/json;q=0.1"
        start = request.body.tell() if hasattr(request.body, "tell") else None
        request.register_hook("response", lambda answer, **how: self.answered(site, asked, start, answer, how))
        return request

    def answered(self, site, asked, start, answer, how):
        """Signs in after a 401 of the gate, and makes the request again."""
        gate = 'realm="device_auth"' in answer.headers.get("WWW-Authenticate", "")
        if answer.status_code != 401 or not gate or origin(answer.url) != site:
            return answer
        with self.lock:
            if self.asked.get(site, 0) == asked:  # else another thread has, since this one sent its request
                try:
                    self.sign_in(site, answer.json(), how)
                finally:
                    self.asked[site] = asked + 1
        if site not in self.keys:
            return answer
        answer.close()
        again = answer.request.copy()
        again.headers["Authorization"] = self.bearer(site)
        if start is not None:
            again.body.seek(start)
        final = answer.connection.send(again, **how)
        final.history.append(answer)
        final.request = again
        return final

    def sign_in(self, site, login, how):
        """Shows the sign-in that the gate has begun, and waits for its end."""
        if login["status"] not in ("pending", "approved"):  # the key is over, so none was begun
            login = self.ask("GET", login["login_uri"], how)
        if "session" in login:
            self.keep(site, login["session"])  # now: the next run shows the same code
        if "user_code" in login:
            self.tell(f"Sign in to {site}: open {login['verification_uri']} and enter {login['user_code']}")
        now = login
        while now["status"] in ("pending", "approved"):
            if now["status"] == "pending":
                now = self.ask("GET", login["wait_uri"] + "?timeout=50", how, site)
            elif input(f"{now['user']} has approved this sign-in. Is that you? [y/N] ") == "y":
                now = self.ask("POST", now["confirm_uri"], how, site)
            else:
                raise NotSignedIn("not confirmed")
        if now["status"] != "active":
            raise NotSignedIn(now.get("error_description"))
        self.tell(f"Signed in as {now['user']}.")

    def ask(self, method, uri, how, site=None):
        headers = {"Accept": "application/json"}
        if site:
            headers["Authorization"] = self.bearer(site)
        return requests.request(method, uri, headers=headers, **{**how, "timeout": 60}).json()

    def tell(self, line):
        print(line, file=sys.stderr, flush=True)

    def bearer(self, site):
        return "Bearer " + self.keys[site] if site in self.keys else None

    def keep(self, site, key):
        self.keys[site] = key
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.keys, file)
        new.replace(self.path)


def origin(url):
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
