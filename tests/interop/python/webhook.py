"""A webhook as our signer made it, held against the official library. Argument: JSON."""

import json
import sys
from datetime import datetime, timezone

from standardwebhooks import Webhook, WebhookVerificationError

told = json.loads(sys.argv[1])
headers, body = told["headers"], told["body"]

for secret in told["secrets"]:
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    print("held: a receiver that has this secret accepts")


def refused(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


assert refused(told["other"], body, headers)
print("held: another secret is refused")
assert refused(told["secrets"][0], body + " ", headers)
print("held: another body is refused")
at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=timezone.utc)
signed = Webhook(told["secrets"][0]).sign(headers["webhook-id"], at, body)
assert headers["webhook-signature"].split(" ")[0] == signed
print("held: the library signs as we do")
