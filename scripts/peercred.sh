#!/bin/sh
# Question: how is server/peercred.c compiled?
# Usage:    peercred.sh OUTPUT COMPILER [OPTION...]
# Promise:  the same compiler gives the same bytes in any folder: it is named by a relative path, and
#           has no build id.
set -eu
cd "$(dirname "$0")/.."
output=$1
shift
# -U: some compilers define it themselves, with another value.
exec "$@" -std=c17 -O2 -Wall -Wextra -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
  -fstack-protector-strong -static-pie -fPIE \
  -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=none \
  -o "$output" server/peercred.c
