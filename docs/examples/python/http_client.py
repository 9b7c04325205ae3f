"""Submits a job over HTTP, reads its event stream, and prints where the outputs are.

    PHOTOFINISH_URL=https://photofinish.example.com PHOTOFINISH_API_KEY=pf_… python http_client.py job.json order-17

Nothing but the standard library. The second argument is the idempotency key.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

FINAL = {"job.completed", "job.failed", "job.cancelled"}


def call(method, path, body=None, headers=None):
    """One call. A problem document says what to do: its `detail`, and `errors` for each field."""
    request = urllib.request.Request(os.environ["PHOTOFINISH_URL"].rstrip("/") + path, body, method=method)
    request.add_header("Authorization", "Bearer " + os.environ["PHOTOFINISH_API_KEY"])
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    return urllib.request.urlopen(request, timeout=60)


def submit(body, key):
    """With a key a submission may be repeated until it is answered: it is the same job."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    for attempt in range(8):
        try:
            with call("POST", "/v1/jobs", body, headers) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code not in (429, 503):
                for fault in problem.get("errors", []):
                    print(f"{fault['pointer']}: {fault['detail']}", file=sys.stderr)
                sys.exit(f"refused, {problem['code']}: {problem['detail']}")
            time.sleep(float(error.headers.get("Retry-After", 2**attempt)))
        except OSError:
            time.sleep(2**attempt)
    sys.exit("not answered; run this again with the same key")


def events(job):
    """Server-sent events from the beginning; after a broken connection from where it stood."""
    last = None
    while True:
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            with call("GET", f"/v1/jobs/{job}/events", headers=headers) as stream:
                data = ""
                for line in stream:
                    line = line.decode().rstrip("\n")
                    if line.startswith("id:"):
                        last = line[3:].strip()
                    elif line.startswith("data:"):
                        data += line[5:].strip()
                    elif not line and data:
                        event = json.loads(data)
                        yield event
                        if event["type"] in FINAL:
                            return
                        data = ""
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code not in (429, 503):
                sys.exit(f"no event stream: {error}")
            time.sleep(1)


def main():
    path, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else str(uuid.uuid4())
    with open(path, "rb") as file:
        job = submit(file.read(), key)
    print(f"{job['id']} {job['status']}", flush=True)
    for event in events(job["id"]):
        progress = event["data"]["progress"]
        print(f"{event['type']} {progress['items_done']}/{progress['items_total']}", flush=True)
    with call("GET", f"/v1/jobs/{job['id']}") as answer:
        job = json.load(answer)
    for output in job["outputs"]:
        print(output["item"], output["status"], output.get("url", ""))
    sys.exit(0 if job["status"] == "completed" else 1)


if __name__ == "__main__":
    main()
