"""Each schema of docs/contracts/schemas is JSON Schema 2020-12, takes its own examples and those of docs/examples, and
what a real ingest answers: the job on standard input."""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator as Validator

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / "docs/contracts/schemas"
schemas = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
checked = 0
for name, schema in schemas.items():
    Validator.check_schema(schema)
    for example in schema.get("examples", []):
        Validator(schema).validate(example)
        checked += 1
Validator(schemas["job-request"]).validate(json.loads((ROOT / "docs/examples/job.json").read_text()))
job = json.load(sys.stdin)
Validator(schemas["job"]).validate(job)
event = {"type": "job.completed", "timestamp": job["created_at"], "sequence": 7, "data": job}
Validator(schemas["webhook-event"]).validate(event)
cloud = {"specversion": "1.0", "id": "evt_1", "source": "/photofinish/acme", "type": "job.completed", "subject": job["id"],
         "time": job["created_at"], "sequence": "7", "datacontenttype": "application/json", "data": job}
Validator(schemas["cloud-event"]).validate(cloud)
for name, value in [("job-request", {**json.loads((ROOT / "docs/examples/job.json").read_text()), "colour": 1}),
                    ("webhook-event", {**event, "type": "JobCompleted"}), ("job", {**job, "status": "done"})]:
    assert not Validator(schemas[name]).is_valid(value), f"{name} takes anything"
print(len(schemas), "schemas,", checked, "examples")
