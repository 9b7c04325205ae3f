#!/usr/bin/env bash
# The rules of the house that no compiler knows, counted. Prints every breach, then fails.
set -euo pipefail
cd "$(dirname "$0")/.."
lines_max=500
breaches=0

# Tracked files and new ones that are not ignored; without git, everything but build output.
files() { # PATTERN...
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [ ! -f "$f" ] || echo "$f"; done
  else
    local p; for p in "$@"; do find . -path ./target -prune -o -path ./.dev -prune -o -name "$p" -type f -print; done
  fi | sort -u
}

breach() { # RULE, then lines on standard input
  local rule=$1 line
  while IFS= read -r line; do
    [ -n "$line" ] || continue
    echo "$line: $rule"
    breaches=$((breaches + 1))
  done
}

# Other people's code is other people's.
rust=$(files '*.rs' | grep -v '^third-party/')
text=$(files '*.rs' '*.sh' '*.toml' '*.md' '*.yml' '*.yaml' '*.lua' 'Makefile' 'Dockerfile*' |
  grep -vE '^(scripts/lint.sh$|third-party/)' || true)

breach "longer than $lines_max lines" < <(
  for f in $rust; do n=$(wc -l <"$f"); [ "$n" -le $lines_max ] || echo "$f: $n lines"; done)

breach "unfinished work belongs into an issue" < <(
  echo "$text" | xargs -r grep -nE '\b(TODO|FIXME|XXX)\b|\b(todo|unimplemented)!\(' -- || true)

breach "no test is skipped" < <(echo "$rust" | xargs -r grep -nE '#\[ignore' -- || true)

breach "a drawer: name it after what is in it" < <(
  echo "$rust" | grep -E '(^|/)(utils?|common|helpers?|misc)(\.rs$|/)' || true
  files 'Cargo.toml' '*/Cargo.toml' | xargs -r grep -nE '^name = ".*(utils?|common|helpers?|misc)"' -- || true)

breach "a path of one machine" < <(
  echo "$text" | xargs -r grep -nE '(^|[^[:alnum:]_./])/(root|home/[a-z]+|work)/' -- || true)

breach "limits end in _max or _min" < <(
  echo "$rust" | xargs -r grep -nE '^\s*(pub(\([a-z]+\))? )?(static|const) (MAX|MIN)_' -- || true
  echo "$rust" | xargs -r grep -nE '^\s*pub(\([a-z]+\))? (max|min)_[a-z_]+:' -- || true)

# A test waits for a state with a deadline. Where a test must let time pass, the line says why: `// paced: reason`.
paced='sleep(_until)?\('
breach "a test sleeps for a guess; wait for the state, or say '// paced: why' on the line" < <(
  echo "$rust" | grep -E '(^|/)tests/([^/]*\.rs|e2e/.*|kit/.*)$|_tests\.rs$|/tests\.rs$' |
    xargs -r grep -nHE "\b$paced" -- | grep -vE '// paced: .+' || true
  echo "$rust" | grep -vE '(^|/)tests/' | xargs -r awk -v paced="$paced" '
    FNR == 1 { test = 0 }
    /^#\[cfg\(test\)\]/ { test = 1 }
    test && $0 ~ paced && $0 !~ /\/\/ paced: ./ { print FILENAME ":" FNR ": " $0 }' || true)

breach "names a test that is not there" < <(
  functions=$(echo "$rust" | xargs -r grep -ohE '\bfn [a-z0-9_]+' -- | sed 's/^fn //' | sort -u)
  { grep -oE '`[a-z0-9_]+`' docs/runpod-compat.md || true; } | tr -d '`' | { grep _ || true; } | sort -u |
    comm -23 - <(echo "$functions") | sed 's/^/docs\/runpod-compat.md: /')

if [ "$breaches" -gt 0 ]; then
  echo "$breaches breaches of the house style" >&2
  exit 1
fi
echo "house style: $(echo "$rust" | wc -l) Rust files, no breach"
