"""Every panel of every dashboard, asked of a real Prometheus that scrapes the whole product at work.

Starts the product with an emulated RunPod (`photofinish-demo up`) and a Prometheus, runs a few jobs, and asks each
query of each panel. A query that Prometheus does not understand fails, and so does a panel of which no query shows
anything, unless it shows faults alone: EMPTY_WHEN_WELL.

    scripts/alerts-test.sh dashboards
"""

import http.server
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
BOARDS = ROOT / "k8s/components/monitoring/dashboards"
WORK = ROOT / ".dev/dashboards"
SCRAPE = "1s"
# What Grafana would put there for such scrapes, and long enough for a run as short as this one.
RATE_INTERVAL = "2m"
ROUNDS = 3
JOB_DEADLINE_S = 90

EMPTY_WHEN_WELL = {
    "overview: Lost ground": "nothing was lost or made again",
    "overview: Stores": "no call failed",
    "webhooks: Sent away": "no receiver rested",
}


class Here(http.server.BaseHTTPRequestHandler):
    """The pictures, and a receiver of webhooks; one of its paths always refuses."""

    def do_GET(self):
        found = self.path == "/picture.jpg"
        body = (WORK / "picture.jpg").read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("content-type", "image/jpeg")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(500 if self.path == "/refuses" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


def call(url, body=None, key=None):
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=15) as answer:
        return json.load(answer)


def wait(what, within_s, ready):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.5)
    sys.exit(f"waited {within_s} s for {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_jobs(env, here):
    url, key = env["PHOTOFINISH_URL"], env["PHOTOFINISH_API_KEY"]
    image = {"image_url": f"{here}/picture.jpg", "duracao": 0.5}
    gone = {"image_url": f"{here}/none.jpg", "duracao": 0.5}
    small = {"operation": "img2vid", "width": 128, "height": 72, "frame_rate": 12}

    def ended(job):
        return call(f"{url}/v1/jobs/{job}", key=key)["status"] in ("completed", "failed")

    for number in range(ROUNDS):
        jobs = [
            {**small, "images": [image] * 4, "webhook_url": f"{here}/takes"},
            {**small, "images": [image, gone], "webhook_url": f"{here}/refuses"},
        ]
        ids = [call(f"{url}/v1/jobs", job, key)["id"] for job in jobs]
        wait(f"the jobs of round {number + 1}", JOB_DEADLINE_S, lambda: all(map(ended, ids)))
        print(f"round {number + 1}: {', '.join(ids)}", flush=True)


def start_prometheus(wiring, port):
    jobs = [
        {"job_name": name, "honor_labels": True,
         "static_configs": [{"targets": [address.removeprefix("http://")]}]}
        for name, address in wiring["admin"].items()
    ]
    config = {"global": {"scrape_interval": SCRAPE}, "scrape_configs": jobs}
    (WORK / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = ["prometheus", f"--config.file={WORK}/prometheus.yaml", f"--storage.tsdb.path={WORK}/tsdb",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    return subprocess.Popen(command, cwd=WORK)


def ask(prometheus, expression):
    """The series that show a number; an error's text if Prometheus refuses."""
    expression = expression.replace("$__rate_interval", RATE_INTERVAL)
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        result = call(url)["data"]["result"]
    except urllib.error.HTTPError as error:
        return error.read().decode()
    return [series for series in result if not math.isnan(float(series["value"][1]))]


def look(prometheus):
    """Lines about every panel, and what is wrong."""
    faults, panels, shown, empty = [], 0, 0, []
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] == "row":
                continue
            panels += 1
            place = f"{path.stem}: {panel['title']}"
            answers = [ask(prometheus, target["expr"]) for target in panel["targets"]]
            refused = [answer for answer in answers if isinstance(answer, str)]
            series = sum(len(answer) for answer in answers if not isinstance(answer, str))
            if refused:
                faults.append(f"{place}: {refused[0]}")
            elif series:
                shown += 1
            elif place in EMPTY_WHEN_WELL:
                empty.append(place)
            else:
                faults.append(f"{place}: shows nothing")
    print(f"{panels} panels: {shown} show something, {len(empty)} show faults and there were none: {', '.join(empty)}")
    return faults


def main(programs):
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    picture = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "mandelbrot=size=320x180", "-frames:v", "1"]
    subprocess.run([*picture, str(WORK / "picture.jpg")], check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_address[1]}"

    demo = [str(ROOT / programs / "photofinish-demo")]
    place = ["--dir", str(WORK / "up")]
    prometheus = None
    try:
        subprocess.run([*demo, "up", *place], check=True, cwd=ROOT)
        env = dict(line.split("=", 1) for line in (WORK / "env").read_text().splitlines())
        wiring = json.loads((WORK / "up/wiring.json").read_text())
        port = free_port()
        prometheus = start_prometheus(wiring, port)
        asked = f"http://127.0.0.1:{port}"
        up = "count(up == 1) == %d" % len(wiring["admin"])
        wait("Prometheus to scrape every service", 30, lambda: answers(asked, up))
        run_jobs(env, here)
        # Gauges of queues are told every ten seconds, slots every four; attempts end after their jobs do.
        wait("attempts to be counted", 60, lambda: answers(asked, "sum(photofinish_linger_seconds_count) > 0"))
        faults = wait_for_panels(asked)
    finally:
        if prometheus:
            prometheus.terminate()
            prometheus.wait()
        subprocess.run([*demo, "down", *place], check=False, cwd=ROOT)
    if faults:
        sys.exit("\n".join(["", *faults]))


def answers(prometheus, expression):
    try:
        return ask(prometheus, expression)
    except (urllib.error.URLError, ConnectionError):
        return None


def wait_for_panels(prometheus):
    """What is still wrong after the slowest number was told."""
    deadline = time.monotonic() + 30
    faults = look(prometheus)
    while faults and time.monotonic() < deadline:
        time.sleep(3)
        faults = look(prometheus)
    return faults


if __name__ == "__main__":
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    main(sys.argv[1])
