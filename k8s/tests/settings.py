"""What the programs are told: every variable is one that its program knows, of the right type, and the four agree.

The programs' own document of their settings, docs/config.md, is generated from their defaults; so a typo in a manifest and
a key that was renamed in the code both fail here, and not in a pod that will not start.
"""

import functools
import re

from overlay import ROOT, SERVICES

DOCUMENT = ROOT / "docs/config.md"
EMULATOR = ROOT / "tests/runpod-sim/src/config.rs"
# What RunPod tells its workers, and the old system's own names, which docs/config.md lists.
WORKER_ALSO = {"RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "RUNPOD_WEBHOOK_GET_JOB", "RUNPOD_WEBHOOK_POST_OUTPUT",
               "RUNPOD_WEBHOOK_PING", "RUNPOD_PING_INTERVAL", "RUNPOD_AI_API_KEY", "WORKER_PROXY_URL", "WORK_DIR",
               "OUTPUT_DIR", "BATCH_SIZE", "HTTP_PORT"}
# Never in a ConfigMap.
SECRETS = {"PHOTOFINISH__BROKER__URL", "PHOTOFINISH__BROKER__MANAGEMENT_URL", "PHOTOFINISH__REDIS__URL",
           "PHOTOFINISH__S3__ACCESS_KEY_ID", "PHOTOFINISH__S3__SECRET_ACCESS_KEY", "PHOTOFINISH__TOKENS__KEYS",
           "PHOTOFINISH__SECRETS__KEY", "PHOTOFINISH__AUTH__OPERATOR_KEY", "PHOTOFINISH__RUNPOD__API_KEY"}
# Said to several programs, and the same to each of them.
SHARED = re.compile(r"PHOTOFINISH__(PLAN__|LINKS__|USAGE__|URLS__OUTPUT|OUTBOUND__RECEIVERS__|OUTBOUND__INPUTS__"
                    r"|RUNPOD__BASE_URL)")


@functools.cache
def known():
    """program -> variable -> its default as TOML, read off docs/config.md."""
    programs = {name: {} for name in (*SERVICES, "worker")}
    into = []
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            own = re.search(r"photofinish-(\w+)", line)
            everyone = "Every service" in line
            into = [own.group(1)] if own else list(programs) if everyone else list(SERVICES) if "RabbitMQ" in line else []
        row = re.match(r"\| `([a-z0-9_]+)` \| `(.*?)` \| `(PHOTOFINISH__[A-Z0-9_]+)` \|", line)
        if row:
            for name in into:
                programs[name][row.group(3)] = row.group(2)
    assert all(programs.values()), "docs/config.md is not laid out as it was"
    return programs


@functools.cache
def emulator():
    """The emulator's variables."""
    return set(re.findall(r'env = "(RUNPOD_SIM_[A-Z_]+)"', EMULATOR.read_text()))


def program(container):
    """Which of our programs an image is, or None."""
    found = re.search(r"(?:^|/)photofinish/([a-z-]+)(?:[:@]|$)", container["image"])
    return found.group(1) if found else None


def variables(overlay):
    """Every variable is known to its program, and its value is of the type that is wanted."""
    programs = known()
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            name = program(container)
            if name is None:
                continue
            for variable, value in overlay.environment(container).items():
                yield from (f"{owner}: {fault}" for fault in _fault(programs, name, variable, value))


def _fault(programs, name, variable, value):
    if name == "runpod-sim":
        if variable not in emulator():
            yield f"the emulator knows no {variable}"
        return
    keys = programs[name]
    if variable in WORKER_ALSO and name == "worker":
        return
    if variable in keys:
        default = keys[variable]
        numbers = (r"-?\d+" if re.fullmatch(r"-?\d+", default) else r"-?\d+(\.\d+)?" if re.fullmatch(r"-?[\d.]+", default)
                   else None)
        if default in ("true", "false") and value not in ("true", "false"):
            yield f"{variable} is true or false, not {value!r}"
        if numbers and not re.fullmatch(numbers, value or ""):
            yield f"{variable} is a number, not {value!r}"
    elif not (variable.endswith("_FILE") and variable.removesuffix("_FILE") in keys):
        yield f"photofinish-{name} knows no {variable}"


def files(overlay):
    """Every file that a setting names is mounted there."""
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            there = set(_mounted(overlay, pod, container))
            for variable, value in overlay.environment(container).items():
                if variable.endswith("_FILE") and value not in there:
                    yield f"{owner}: {variable} is {value}, which is not mounted"


def _mounted(overlay, pod, container):
    volumes = {one["name"]: one for one in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        sources = [one["secret"] for one in volume.get("projected", {}).get("sources", [])]
        if "secret" in volume:
            # Without items: all of a certificate's Secret.
            whole = [{"path": key} for key in ("tls.crt", "tls.key", "ca.crt")]
            sources.append({"items": volume["secret"].get("items", whole)})
        for source in sources:
            yield from (f"{mount['mountPath']}/{item['path']}" for item in source["items"])


def confidential(overlay):
    """No ConfigMap and no plain value holds what a Secret should."""
    for one in overlay.all("ConfigMap"):
        yield from (f"ConfigMap {one['metadata']['name']} holds {key}" for key in one.get("data", {}) if key in SECRETS)
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            held = [one["name"] for one in container.get("env", []) if one.get("value") and one["name"] in SECRETS]
            yield from (f"{owner} holds {name} in its manifest" for name in held)


def agreement(overlay):
    """What several programs are told is the same in each, defaults included, and is where clients are led."""
    programs = known()
    told = {name: overlay.environment(overlay.container(name)) for name in SERVICES}
    for variable in sorted({one for keys in programs.values() for one in keys if SHARED.match(one)}):
        said = {told[name].get(variable, "as by default") for name in SERVICES if variable in programs[name]}
        if len(said) > 1:
            yield f"{variable} is not the same everywhere: {sorted(said)}"
    public = told["ingest"].get("PHOTOFINISH__LINKS__PUBLIC_URL", "")
    hosts = [host for one in overlay.all("HTTPRoute") for host in one["spec"]["hostnames"]]
    hosts += [rule["host"] for one in overlay.all("Ingress") for rule in one["spec"]["rules"]]
    for host in hosts:
        if public != f"https://{host}":
            yield f"links lead to {public or 'nowhere'}, and the route is for {host}"
        if told["dispatcher"].get("PHOTOFINISH__SIGNALS__PUBLIC_URL") != f"https://{host}":
            yield f"workers are not told to signal to {host}"


def hashed(overlay):
    """A change of the configuration rolls the pods that read it: the names of what is generated end in its hash."""
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            names = [source["configMapRef"]["name"] for source in container.get("envFrom", [])]
            yield from (f"{owner} reads {name}, which has no hash" for name in names
                        if not re.fullmatch(r".+-[a-z0-9]{10}", name))
            if program(container) in SERVICES and len(names) != 2:
                yield f"{owner} reads {names}, not what all are told and what it is told"


# Which setting says where a program listens at the port of that name.
LISTEN = {"admin": "PHOTOFINISH__ADMIN__LISTEN", "http": "PHOTOFINISH__HTTP__LISTEN", "outputs": "PHOTOFINISH__WORKER__HTTP_PORT"}


def listening(overlay):
    """The ports of a container are those at which its program listens, by its defaults or by what it is told."""
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            name = program(container)
            if name is None:
                continue
            told = overlay.environment(container)
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for port, number in ports.items():
                setting = "RUNPOD_SIM_LISTEN" if name == "runpod-sim" else LISTEN[port]
                address = told.get(setting) or known()[name][setting]
                if int(address.strip('"').rpartition(":")[2]) != number:
                    yield f"{owner}: port {port} is {number}, and {setting} is {address}"
            if name in SERVICES and ("http" in ports) != (LISTEN["http"] in known()[name]):
                yield f"{owner}: it has an API, or has none"


CHECKS = (variables, files, confidential, agreement, hashed, listening)
