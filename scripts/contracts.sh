#!/usr/bin/env bash
# docs/contracts/asyncapi.yaml, read by AsyncAPI's own parser (npm): any error fails.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/contracts
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "node is not there: docs/contracts/asyncapi.yaml is NOT validated" >&2
  exit 0
fi
mkdir -p $dir
# Newest each time, unless the network is away and one is there already.
npm install --silent --no-audit --no-fund --prefix $dir @asyncapi/parser@latest || [ -d $dir/node_modules/@asyncapi/parser ]
cat >$dir/validate.mjs <<'JS'
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';
const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], 'utf8'));
// Severity 0 is an error; hints, such as that there is a newer AsyncAPI, are only shown.
for (const { severity, code, path, message } of diagnostics) console.log(severity, code, path?.join('.'), message);
const errors = diagnostics.filter(({ severity }) => severity === 0).length;
console.log(`${document?.messages().length ?? 0} messages, ${errors} errors`);
process.exit(document && errors === 0 ? 0 : 1);
JS
node $dir/validate.mjs docs/contracts/asyncapi.yaml
