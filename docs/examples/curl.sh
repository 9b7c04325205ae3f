#!/usr/bin/env bash
# A job over HTTP by hand. usage: PHOTOFINISH_URL=… PHOTOFINISH_API_KEY=… curl.sh job.json order-17
set -euo pipefail
photofinish() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $PHOTOFINISH_API_KEY" "$@"; }

# What it would take: nothing is run.
photofinish -H 'Content-Type: application/json' --data-binary "@$1" "$PHOTOFINISH_URL/v1/jobs?dry_run=true"
echo

# The same key again is the same job.
job=$(photofinish -H 'Content-Type: application/json' -H "Idempotency-Key: $2" --data-binary "@$1" "$PHOTOFINISH_URL/v1/jobs" |
  sed -E 's/^[^}]*"id": ?"(job_[^"]+)".*/\1/')
echo "$job"

# As it is now, and its events until the end.
photofinish "$PHOTOFINISH_URL/v1/jobs/$job"
echo
photofinish --no-buffer "$PHOTOFINISH_URL/v1/jobs/$job/events"
photofinish "$PHOTOFINISH_URL/v1/jobs/$job/outputs"
