"""The programs themselves take what their pods would tell them: `--check-config` with the variables and files of each
overlay, and the sub-command that preStop calls.

The directory of the programs is PHOTOFINISH_PROGRAMS, by default target/debug.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

import overlay as overlays
import settings

PROGRAMS = pathlib.Path(os.environ.get("PHOTOFINISH_PROGRAMS", overlays.ROOT / "target/debug"))
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
# What lies in the files, by the variable that names them.
SECRETS = {
    "BROKER__URL": "amqps://photofinish:secret@rabbitmq:5671/photofinish",
    "BROKER__MANAGEMENT_URL": "https://photofinish-management:secret@rabbitmq:15671",
    "REDIS__URL": "rediss://:secret@valkey:6379",
    "TOKENS__KEYS": KEY,
    "SECRETS__KEY": KEY,
}


def run(program, arguments, environment):
    path = PROGRAMS / program
    if not path.is_file():
        raise AssertionError(f"{path} is not built: cargo build --workspace --bins")
    return subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=20)


def certificate(directory):
    """A certificate of nobody's and its key, as cert-manager would mount them."""
    pair = pathlib.Path(directory, "tls.crt"), pathlib.Path(directory, "tls.key")
    asked = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=ingest", "-addext", "subjectAltName=DNS:ingest", "-out", pair[0], "-keyout", pair[1]]
    subprocess.run(asked, capture_output=True, check=True)
    return {"tls.crt": pair[0].read_text(), "ca.crt": pair[0].read_text(), "tls.key": pair[1].read_text()}


def told(one, container, directory, pems):
    """What a pod is told, with its files below `directory`."""
    environment = {}
    for name, value in one.environment(container).items():
        if name.endswith("_FILE"):
            path = pathlib.Path(directory + value)
            path.parent.mkdir(parents=True, exist_ok=True)
            secret = SECRETS.get(name.removeprefix("PHOTOFINISH__").removesuffix("_FILE"), "secret")
            path.write_text(pems.get(path.name, secret + "\n"))
            value = str(path)
        environment[name] = value if value is not None else "secret"
    return environment


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = overlays.render()
        with tempfile.TemporaryDirectory() as directory:
            cls.pems = certificate(directory)

    def containers(self):
        for one in self.rendered.values():
            for owner, _, pod in one.pods():
                for container in pod["containers"]:
                    name = settings.program(container)
                    if name and name != "runpod-sim":
                        yield one, owner, name, container

    def test_every_program_takes_its_settings(self):
        seen = set()
        for one, owner, name, container in self.containers():
            with self.subTest(overlay=one.name, pod=owner), tempfile.TemporaryDirectory() as directory:
                done = run(f"photofinish-{name}", ["--check-config"], told(one, container, directory, self.pems))
                self.assertEqual(0, done.returncode, done.stdout + done.stderr)
                seen.add(name)
        self.assertEqual({*overlays.SERVICES, "worker"}, seen)

    def test_a_wrong_setting_is_refused(self):
        one = self.rendered["production"]
        with tempfile.TemporaryDirectory() as directory:
            environment = told(one, one.container("ingest"), directory, self.pems)
            environment["PHOTOFINISH__HTTP__LISTN"] = "0.0.0.0:8080"
            done = run("photofinish-ingest", ["--check-config"], environment)
        self.assertEqual(78, done.returncode, done.stdout + done.stderr)

    def test_what_is_called_before_an_end_is_there(self):
        hooks = 0
        for one, _, _, container in self.containers():
            command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            if command:
                hooks += 1
                done = run(pathlib.Path(command[0]).name, [*command[1:-1], "0"], {})
                self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertEqual(len(overlays.OVERLAYS) + 1, hooks)


if __name__ == "__main__":
    unittest.main()
