// The resources of KEDA, the Prometheus Operator, the External Secrets Operator, cert-manager and the Gateway API against
// the schemas that npm has of them: by their validators what is missing or of the wrong type, by TypeScript what they do
// not know. Run where these packages are installed; usage: schemas.mjs CUSTOM.json
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import ts from 'typescript';

const packages = {
  'keda.sh': 'keda',
  'monitoring.coreos.com': 'prometheus-operator',
  'external-secrets.io': 'external-secrets',
  'cert-manager.io': 'cert-manager',
  'gateway.networking.k8s.io': 'gateway-api',
};
const custom = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const lines = [];
let faults = 0;
const fault = (text) => { faults += 1; console.error(text); };

for (const [number, { where, object }] of custom.entries()) {
  const [group, version] = object.apiVersion.split('/');
  const model = `@kubernetes-models/${packages[group]}/${group}/${version}/${object.kind}`;
  try {
    new (await import(model))[object.kind](object).validate();
  } catch (error) {
    fault(`${where}: ${error.message}`);
  }
  // One line each, so that the compiler's line says whose fault it is.
  lines.push(`import type { I${object.kind} as T${number} } from "${model}"; export const o${number}: T${number} = ${JSON.stringify(object)};`);
}

mkdirSync('typed', { recursive: true });
writeFileSync('typed/custom.ts', lines.join('\n'));
const program = ts.createProgram(['typed/custom.ts'], {
  strict: true, noEmit: true, skipLibCheck: true, types: [],
  module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022,
});
for (const { file, start, messageText } of ts.getPreEmitDiagnostics(program)) {
  const line = file ? file.getLineAndCharacterOfPosition(start).line : 0;
  fault(`${custom[line].where}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
}
if (faults > 0) process.exit(1);
console.log(`${custom.length} resources of operators are as their schemas want them`);
