#!/usr/bin/env python3
"""What the four services take of a machine: the figures behind the requests in k8s/base.

After `make up`: sends small img2vid jobs (one picture, 64 x 64, 0.1 s) from a few threads with a webhook each, waits for
them, and prints for each service its resident memory before, at its highest and after, and its processor time for a job.

usage: sizes.py [JOBS [ENV_FILE]]
"""

import concurrent.futures
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request

SERVICES = ("ingest", "dispatcher", "fetcher", "notifier")
TICK = os.sysconf("SC_CLK_TCK")


class Site(http.server.BaseHTTPRequestHandler):
    """The picture, and the receiver of the webhooks."""

    picture = b""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "image/jpeg")
        self.send_header("content-length", str(len(self.picture)))
        self.end_headers()
        self.wfile.write(self.picture)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def pids(directory):
    """Of the services of this stack: those whose log lies in its directory."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            name, out = os.readlink(entry / "exe"), os.readlink(entry / "fd/1")
        except OSError:
            continue
        service = pathlib.Path(name).name.removeprefix("photofinish-").removesuffix(" (deleted)")
        if service in SERVICES and out.startswith(str(directory)):
            found[service] = int(entry.name)
    return found


def memory(pid, what):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status).group(1)) / 1024


def seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main(jobs=200, file=".dev/env"):
    env = dict(line.split("=", 1) for line in pathlib.Path(file).read_text().splitlines() if "=" in line)
    stack = pathlib.Path(file).resolve().parent
    services = pids(stack)
    assert set(services) == set(SERVICES), f"{sorted(services)} run; `make up` first"
    Site.picture = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", "1", "-f", "mjpeg", "-"],
        capture_output=True, check=True).stdout
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{site.server_port}"

    def ask(method, path, body=None):
        headers = {"authorization": f"Bearer {env['PHOTOFINISH_API_KEY']}", "content-type": "application/json"}
        request = urllib.request.Request(env["PHOTOFINISH_URL"] + path, json.dumps(body).encode() if body else None,
                                         headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    idle = {name: memory(pid, "VmRSS") for name, pid in services.items()}
    before = {name: seconds(pid) for name, pid in services.items()}
    job = {"operation": "img2vid", "width": 64, "height": 64, "webhook_url": f"{here}/hook",
           "images": [{"image_url": f"{here}/picture.jpg", "duracao": 0.1}]}
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = [one["id"] for one in pool.map(lambda _: ask("POST", "/v1/jobs", job), range(jobs))]
    while any(ask("GET", f"/v1/jobs/{one}")["status"] in ("accepted", "running") for one in ids[-5:]):
        time.sleep(0.5)
        assert time.monotonic() - began < 600, "the jobs do not end"
    took = time.monotonic() - began
    ends = [ask("GET", f"/v1/jobs/{one}")["status"] for one in ids]
    print(f"{ends.count('completed')} of {jobs} jobs completed in {took:.0f} s")
    print(f"{'':12}{'idle MiB':>10}{'most MiB':>10}{'after MiB':>10}{'CPU ms/job':>12}")
    for name, pid in services.items():
        cpu = (seconds(pid) - before[name]) * 1000 / jobs
        print(f"{name:12}{idle[name]:10.1f}{memory(pid, 'VmHWM'):10.1f}{memory(pid, 'VmRSS'):10.1f}{cpu:12.1f}")


if __name__ == "__main__":
    main(*[int(word) if word.isdigit() else word for word in sys.argv[1:]])
