#!/usr/bin/env python3
"""Whether docker-compose.yml, the Dockerfiles and the files beside them agree with the code and with each other.

  deploy/check.py          says every fault; exit code 1 if there is one
  deploy/check.py --self   breaks a copy of the files in many ways and says which breaks go unnoticed

Reads files alone: no engine, no network. Needs PyYAML (python3-yaml)."""

import functools
import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ["ingest", "dispatcher", "fetcher", "notifier"]
COMPOSE = "docker-compose.yml"
IMAGES = "deploy/docker/services.Dockerfile"
WORKER = "deploy/docker/worker.Dockerfile"
FILES = [
    COMPOSE, IMAGES, WORKER, ".dockerignore", "Cargo.toml", "rust-toolchain.toml", "docs/config.md", "scripts/fonts.sh",
    "scripts/static.sh", "deploy/compose/local.yml", "deploy/compose/emulator.env", "deploy/compose/env.example",
    "deploy/compose/secrets.sh", "deploy/compose/prometheus.yml", "deploy/compose/valkey.conf",
    "deploy/compose/grafana/provisioning/datasources/photofinish.yaml",
    "deploy/compose/grafana/provisioning/dashboards/photofinish.yaml", "deploy/compose/rabbitmq/rabbitmq.conf",
    "deploy/compose/rabbitmq/advanced.config", "tests/runpod-sim/src/config.rs",
]
# Of the program, and of RunPod and the system before this one, whose names it understands.
WORKER_OWN = {"WORK_DIR", "OUTPUT_DIR", "BATCH_SIZE", "HTTP_PORT", "WORKER_PROXY_URL"}
CLI_OWN = {"PHOTOFINISH_URL", "PHOTOFINISH_API_KEY", "PHOTOFINISH_OPERATOR_KEY"}


@functools.cache
def parsed(text):
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.cache
def variables(config_md):
    """The variables of docs/config.md by the program that understands them."""
    known, where = {}, None
    for line in config_md.splitlines():
        if line.startswith("## "):
            where = line[3:].strip("` ")
            known[where] = set()
        for name in re.findall(r"\| `(PHOTOFINISH__[A-Z0-9_]+)` \|", line):
            known[where].add(name)
    everybody = known["Every service"]
    stores = known["RabbitMQ, Redis and the bucket"]
    by = {name: everybody | stores | known[f"photofinish-{name}"] for name in SERVICES}
    by["worker"] = everybody | known["photofinish-worker"]
    return by


def program_of(image):
    found = re.match(r"photofinish/([a-z-]+)[:@]", image)
    return found.group(1) if found else None


class Check:
    def __init__(self, texts):
        self.texts, self.faults = texts, []
        self.compose = parsed(texts[COMPOSE])
        self.services = self.compose["services"]
        self.known = variables(texts["docs/config.md"])
        self.version = re.search(r'\[workspace\.package\][^\[]*?\nversion = "([^"]+)"', texts["Cargo.toml"]).group(1)

    def need(self, holds, fault):
        if not holds:
            self.faults.append(fault)

    def run(self):
        for name, service in self.services.items():
            self.service(name, service)
        self.secrets()
        self.files_of_others()
        self.environments()
        self.docker()
        self.prometheus_and_grafana()
        return self.faults

    def service(self, name, service):
        image = service.get("image", "")
        image = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", image)
        self.need(re.search(r":[^:/]*\d|@sha256:", image), f"{name}: image {image} is not pinned")
        health = service.get("healthcheck", {})
        # The worker's is its image's own.
        checked = health.get("test") or program_of(image) == "worker" or (name == "cli" and health.get("disable"))
        self.need(checked, f"{name}: no health check")
        for limit in ("mem_limit", "cpus", "pids_limit"):
            self.need(service.get(limit), f"{name}: no {limit}")
        self.need(service.get("restart") == ("no" if name == "cli" else "unless-stopped"), f"{name}: restart")
        self.need("no-new-privileges:true" in service.get("security_opt", []), f"{name}: may gain privileges")
        self.need(service.get("logging", {}).get("options", {}).get("max-size"), f"{name}: its log grows for ever")
        for other, how in service.get("depends_on", {}).items():
            self.need(other in self.services, f"{name} waits for {other}, which is not there")
            self.need(how.get("condition") == "service_healthy", f"{name} does not wait until {other} is healthy")
        for port in service.get("ports", []):
            self.need(re.match(r"\$\{[A-Z0-9_]+:-127\.0\.0\.1:\d+\}:\d+$", port), f"{name}: port {port} is open to everybody by default")
        program = program_of(image)
        if program:
            self.ours(name, service, program, image)

    def ours(self, name, service, program, image):
        self.need(image.endswith(f":{self.version}"), f"{name}: {image} is not version {self.version}")
        self.need(service.get("read_only") is True, f"{name}: can write its root file system")
        self.need(service.get("cap_drop") == ["ALL"], f"{name}: has capabilities")
        build = service.get("build", {})
        self.need(build.get("dockerfile") == (WORKER if program == "worker" else IMAGES), f"{name}: dockerfile")
        if program != "worker":
            self.need(build.get("target") == program, f"{name}: target is not {program}")
        grace = int(re.match(r"(\d+)s$", service.get("stop_grace_period", "0s")).group(1))
        drain = float(re.search(r"`drain_timeout_s` \| `([\d.]+)`", self.texts["docs/config.md"]).group(1))
        self.need(grace > drain, f"{name}: is killed after {grace} s, drains for {drain} s")
        given = service.get("environment", {})
        mounted = {s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])}
        for variable, value in given.items():
            plain = variable
            if variable.endswith("_FILE") and variable not in self.known.get(program, ()):
                plain = variable[:-5]
                self.need(str(value).startswith("/run/secrets/"), f"{name}: {variable} is no secret's file")
                self.need(str(value).rsplit("/", 1)[-1] in mounted, f"{name}: {variable}: the secret is not mounted")
            elif re.search(r"SECRET|PASSWORD|API_KEY$|OPERATOR_KEY$|TOKENS__KEYS|__URL$", variable) and value is not None:
                self.need(not re.search(r"://[^/]*:[^/]*@", str(value)), f"{name}: {variable} holds a password")
            self.need(self.understood(program, plain), f"{name}: {variable} is not understood by {program}")
        for secret in mounted:
            used = any(str(value) == f"/run/secrets/{secret}" for value in given.values())
            self.need(used, f"{name}: the secret {secret} is mounted for nothing")
        if program in SERVICES:
            test = service["healthcheck"].get("test")
            self.need(test == ["CMD", f"/photofinish-{program}", "healthcheck", "--ready"], f"{name}: health check {test}")
            for needed in ("rabbitmq", "valkey", "s3"):
                self.need(needed in service.get("depends_on", {}), f"{name}: does not wait for {needed}")

    def understood(self, program, variable):
        if program == "cli":
            return variable in CLI_OWN
        if program == "runpod-sim":
            return f'env = "{variable}"' in self.texts["tests/runpod-sim/src/config.rs"]
        if program == "worker":
            return variable in self.known["worker"] | WORKER_OWN or variable.startswith("RUNPOD_")
        return variable in self.known[program]

    def secrets(self):
        declared = set(self.compose["secrets"])
        for name, service in self.services.items():
            for secret in service.get("secrets", []):
                secret = secret if isinstance(secret, str) else secret["source"]
                self.need(secret in declared, f"{name}: the secret {secret} is not declared")
        made = set(re.findall(r"^\s*put ([a-z0-9_]+) ", self.texts["deploy/compose/secrets.sh"], re.M))
        for secret in declared:
            self.need(secret in made, f"the secret {secret} is not made by secrets.sh")
            path = self.compose["secrets"][secret]["file"]
            self.need(path == "${PHOTOFINISH_SECRETS:-./deploy/compose/secrets}/" + secret, f"the secret {secret} lies in {path}")
        for secret in made - declared:
            self.need(False, f"secrets.sh makes {secret} for nobody")

    def files_of_others(self):
        declared = set(self.compose["volumes"])
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("./"):
                    self.need((ROOT / source).exists(), f"{name}: {source} is not there")
                    self.need(volume.endswith(":ro"), f"{name}: can write {source}")
                else:
                    self.need(source in declared, f"{name}: the volume {source} is not declared")
        local = parsed(self.texts["deploy/compose/local.yml"])["services"]
        for name in local:
            self.need(name in self.services, f"local.yml: there is no service {name}")

    def environments(self):
        taken = set(re.findall(r"\$\{([A-Z_0-9]+)", self.texts[COMPOSE]))
        for service in self.services.values():
            taken |= {name for name, value in service.get("environment", {}).items() if value is None}
        for file in ("deploy/compose/emulator.env", "deploy/compose/env.example"):
            for name in re.findall(r"^#?([A-Z][A-Z0-9_]+)=", self.texts[file], re.M):
                self.need(name in taken | {"COMPOSE_PROFILES"}, f"{file}: nobody takes {name}")

    def docker(self):
        images, worker = self.texts[IMAGES], self.texts[WORKER]
        build = re.compile(r"^# --- the programs.*?^# --- end of the programs ---$", re.S | re.M)
        self.need(build.search(images).group(0) == build.search(worker).group(0), "the Dockerfiles build the programs differently")
        channel = re.search(r'channel = "(\d+\.\d+)', self.texts["rust-toolchain.toml"]).group(1)
        for file, text in ((IMAGES, images), (WORKER, worker)):
            self.need(f"ARG RUST_IMAGE=rust:{channel}-" in text, f"{file}: is not built with Rust {channel}")
            for argument in re.findall(r"^ARG \w+_IMAGE=(.*)$", text, re.M):
                self.need(re.search(r"@sha256:[0-9a-f]{64}$", argument), f"{file}: {argument} is not pinned")
            for base in re.findall(r"^FROM (\S+)", text, re.M):
                here = re.findall(r"^FROM \S+ AS (\S+)", text, re.M)
                self.need(base == "scratch" or base in here or base.startswith("${"), f"{file}: FROM {base}")
            self.need("USER 65532:65532" in text, f"{file}: runs as root")
        stages = {part.split("\n", 1)[0].strip(): part for part in re.split(r"^FROM \S+ AS ", images, flags=re.M)[1:]}
        built = dict(re.findall(r"\b([a-z-]+):([a-z0-9-]+)\b", re.search(r"programs=\((.*?)\)", self.texts["scripts/static.sh"], re.S).group(1)))
        for name in [*SERVICES, "cli", "runpod-sim", "s3"]:
            program = {"cli": "photofinish", "runpod-sim": "runpod-sim"}.get(name, f"photofinish-{name}")
            stage = stages.get(name, "")
            self.need(f'ENTRYPOINT ["/{program}"' in stage, f"{IMAGES}: {name} does not start /{program}")
            self.need(f"/programs/{program} /{program}\n" in stage, f"{IMAGES}: {name} has not the program {program}")
            self.need("/sbom.cdx.json" in stage, f"{IMAGES}: {name} has no bill of materials")
            self.need(program in built.values(), f"static.sh does not build {program}")
            if name in SERVICES or name == "runpod-sim":
                self.need(f'HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/{program}", "healthcheck"]' in stage, f"{IMAGES}: {name} has no health check")
            if name in SERVICES:
                ports = [self.default(name, "ADMIN__LISTEN")] + ([self.default(name, "HTTP__LISTEN")] if name == "ingest" else [])
                self.need(f"EXPOSE {' '.join(sorted(ports))}\n" in stage, f"{IMAGES}: {name} exposes other ports than {ports}")
        for package in [name for name in built if name != "kit"]:
            manifest = ROOT / (f"services/{package}" if (ROOT / f"services/{package}").exists() else f"tests/{package}") / "Cargo.toml"
            self.need(f'name = "{built[package]}"' in manifest.read_text(), f"static.sh: {package} has no program {built[package]}")
        for font in re.search(r"^packages=\((.*)\)", self.texts["scripts/fonts.sh"], re.M).group(1).split():
            self.need(re.search(rf"[ ]{font}[ ]", worker), f"{WORKER}: the package {font} is missing")
        for word in ("util-linux", "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility", "HEALTHCHECK", *(f"{name}=" for name in sorted(WORKER_OWN - {"WORKER_PROXY_URL"}))):
            self.need(word in worker, f"{WORKER}: {word} is missing")
        for variable in re.findall(r"PHOTOFINISH__[A-Z_]+", worker):
            self.need(variable in self.known["worker"], f"{WORKER}: {variable} is not understood")
        for needed in ("Cargo.lock", "services", "shared", "third-party", "scripts/static.sh", "scripts/sbom.sh", "deploy/docker"):
            self.need(f"!{needed}\n" in self.texts[".dockerignore"], f".dockerignore: {needed} is left out")

    def default(self, program, key):
        """The port of a default address."""
        section = self.texts["docs/config.md"]
        found = re.search(rf'`"[\d.]+:(\d+)"` \| `PHOTOFINISH__{key}`', section)
        return found.group(1) if found else ""

    def prometheus_and_grafana(self):
        config = parsed(self.texts["deploy/compose/prometheus.yml"])
        scraped = {name: found for job in config["scrape_configs"] for found in job["dns_sd_configs"] for name in found["names"]}
        admin = int(self.default("ingest", "ADMIN__LISTEN") or 0)
        for name in SERVICES:
            self.need(scraped.get(name, {}).get("port") == admin, f"prometheus.yml: {name} is not scraped at port {admin}")
        for name in scraped:
            self.need(name in self.services, f"prometheus.yml: there is no service {name}")
        mounts = [volume.split(":")[1] for volume in self.services["prometheus"]["volumes"]]
        for file in config["rule_files"]:
            self.need(file in mounts, f"prometheus.yml: {file} is not mounted")
        sources = parsed(self.texts["deploy/compose/grafana/provisioning/datasources/photofinish.yaml"])["datasources"]
        known = {source["uid"] for source in sources}
        for source in sources:
            host, port = re.match(r"http://([a-z]+):(\d+)$", source["url"]).groups()
            self.need(host in self.services, f"Grafana: there is no service {host}")
        for file in sorted((ROOT / "k8s/components/monitoring/dashboards").glob("*.json")):
            for uid in datasources(json.loads(file.read_text())):
                self.need(uid in known or uid.startswith("$") or uid in ("-- Grafana --", "grafana"), f"{file.name}: Grafana has no data source {uid}")
        home = self.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        self.need((ROOT / "k8s/components/monitoring/dashboards" / Path(home).name).exists(), f"Grafana: {home} is not there")


def datasources(node):
    if isinstance(node, dict):
        source = node.get("datasource")
        if isinstance(source, dict) and "uid" in source:
            yield source["uid"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from datasources(inner)


# A file, what is there, and what takes its place: each must be noticed.
BREAKS = [
    (COMPOSE, "PHOTOFINISH__LINKS__PUBLIC_URL:", "PHOTOFINISH__LINK__PUBLIC_URL:"),
    (COMPOSE, "PHOTOFINISH__TOKENS__KEYS_FILE: /run/secrets/token_keys", "PHOTOFINISH__TOKENS__KEYS_FILE: /run/secrets/token_key"),
    (COMPOSE, "RUNPOD_SIM_WORKERS_MAX", "RUNPOD_SIM_WORKER_MAX"),
    (COMPOSE, "    mem_limit: 512m\n", ""),
    (COMPOSE, "  pids_limit: 200\n", ""),
    (COMPOSE, "  restart: unless-stopped\n", ""),
    (COMPOSE, "  read_only: true\n", ""),
    (COMPOSE, "  cap_drop: [ALL]\n", ""),
    (COMPOSE, "rabbitmq: {condition: service_healthy}", "rabbitmq: {condition: service_started}"),
    (COMPOSE, "valkey: {condition: service_healthy}", "redis: {condition: service_healthy}"),
    (COMPOSE, "stop_grace_period: 45s", "stop_grace_period: 20s"),
    (COMPOSE, "${PHOTOFINISH_AMQP_BIND:-127.0.0.1:5672}:5672", "5672:5672"),
    (COMPOSE, "target: dispatcher}", "target: ingest}"),
    (COMPOSE, "/photofinish-notifier, healthcheck, --ready", "/photofinish-ingest, healthcheck, --ready"),
    (COMPOSE, "image: prom/prometheus:v3.14.0", "image: prom/prometheus:latest"),
    (COMPOSE, "secrets: [valkey_auth]", "secrets: [valkey_password]"),
    (COMPOSE, "valkey.conf:/etc/valkey/valkey.conf:ro", "redis.conf:/etc/valkey/valkey.conf:ro"),
    (COMPOSE, '      - valkey:/data\n', '      - redis:/data\n'),
    ("deploy/compose/secrets.sh", "put operator_key ", "put operators_key "),
    ("deploy/compose/emulator.env", "PHOTOFINISH__SIGNALS__PUBLIC_URL", "PHOTOFINISH__SIGNAL__PUBLIC_URL"),
    ("deploy/compose/local.yml", "  valkey:", "  redis:"),
    ("deploy/compose/prometheus.yml", "port: 9090", "port: 9091"),
    ("deploy/compose/prometheus.yml", "fetcher, ", "puller, "),
    (IMAGES, "EXPOSE 8080 9090", "EXPOSE 8080"),
    (IMAGES, "USER 65532:65532\n", ""),
    (IMAGES, 'CMD ["/photofinish-fetcher", "healthcheck"]', 'CMD ["/photofinish-ingest", "healthcheck"]'),
    (IMAGES, 'ENTRYPOINT ["/photofinish-notifier"]', 'ENTRYPOINT ["/photofinish-notify"]'),
    (IMAGES, "scripts/static.sh build &&", "scripts/static.sh install /x &&"),
    (WORKER, "fonts-symbola ", ""),
    (WORKER, "rust:1.95-", "rust:1.94-"),
    (WORKER, "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility", "NVIDIA_DRIVER_CAPABILITIES=compute"),
    (WORKER, "PHOTOFINISH__ADMIN__LISTEN", "PHOTOFINISH__ADMIN__LISTENS"),
    ("Cargo.toml", '\nversion = "0.1.0"', '\nversion = "0.2.0"'),
    (".dockerignore", "!third-party\n", ""),
    ("scripts/static.sh", "notifier:photofinish-notifier", "notifier:photofinish-notify"),
]


def main():
    texts = {file: (ROOT / file).read_text() for file in FILES}
    faults = Check(texts).run()
    for fault in faults:
        print(fault)
    if "--self" in sys.argv:
        for file, there, instead in BREAKS:
            if there not in texts[file]:
                faults.append(f"nothing to break in {file}: {there!r}")
                print(faults[-1])
                continue
            broken = dict(texts, **{file: texts[file].replace(there, instead)})
            if not set(Check(broken).run()) - set(faults):
                faults.append(f"unnoticed in {file}: {instead!r} for {there!r}")
                print(faults[-1])
        print(f"{len(BREAKS)} breaks tried")
    if not faults:
        print(f"{len(texts)} files agree")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
