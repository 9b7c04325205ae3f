"""A webhook receiver: verifies Standard Webhooks signatures, refuses old ones, and drops what it has seen.

    PHOTOFINISH_WEBHOOK_SECRET=whsec_… python receiver.py 8000

Nothing but the standard library. Answer quickly (15 s at most) with 2xx, and work afterwards.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300


def is_genuine(secret, headers, body, now=None):
    """Whether one of the signatures is ours and the message is fresh. `headers` must find names in any case."""
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    if not message_id or not timestamp or not timestamp.isdigit():
        return False
    if abs((now or time.time()) - int(timestamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # Several while a secret is being rotated. compare_digest takes the same time for every wrong one.
    given = [part.removeprefix("v1,") for part in (headers.get("webhook-signature") or "").split() if part.startswith("v1,")]
    return any(hmac.compare_digest(wanted, signature) for signature in given)


class Receiver(BaseHTTPRequestHandler):
    # A real one keeps both in its database.
    seen = set()
    newest = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not is_genuine(os.environ["PHOTOFINISH_WEBHOOK_SECRET"], self.headers, body):
            self.answer(401)
            return
        self.answer(204)
        event = json.loads(body)
        message_id = self.headers["webhook-id"]
        if message_id in self.seen:
            return
        self.seen.add(message_id)
        subject = event["data"]["id"]
        if event["sequence"] <= self.newest.get(subject, -1):
            return
        self.newest[subject] = event["sequence"]
        print(event["type"], subject, event["sequence"], flush=True)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print("listening", server.server_port, flush=True)
        server.serve_forever()
