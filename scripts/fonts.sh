#!/usr/bin/env bash
# Installs the fonts that captions need, if they are missing (Debian, Ubuntu). docs/fonts.md says which and why.
#   scripts/fonts.sh          installs what is missing; quick when all is there
#   scripts/fonts.sh check    only looks; fails with the command to run
set -euo pipefail

packages=(fontconfig fonts-noto-core fonts-noto-cjk fonts-symbola)
families=("Noto Sans" "Noto Sans Arabic" "Noto Sans Hebrew" "Noto Sans Thai" "Noto Sans Devanagari" "Noto Sans CJK JP" "Symbola")

missing() {
  local here family
  here=$(fc-list : family 2>/dev/null || true)
  for family in "${families[@]}"; do
    grep -qE "(^|,)$family(,|\$)" <<<"$here" || echo "$family"
  done
}

absent=$(missing)
[ -n "$absent" ] || exit 0

install="apt-get install -y --no-install-recommends ${packages[*]}"
if [ "${1:-}" = check ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Captions need fonts that are not here: $(paste -sd, - <<<"$absent")" >&2
  echo "Install them with: sudo $install" >&2
  exit 1
fi

echo "installing fonts for captions: ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A machine that was just made may have no package lists yet.
$install >/dev/null || { apt-get update >/dev/null && $install >/dev/null; }
absent=$(missing)
if [ -n "$absent" ]; then
  echo "still missing after the installation: $absent" >&2
  exit 1
fi
