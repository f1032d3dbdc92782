#!/bin/sh
# A shell that asks for its token itself, in front of an application that talks to Vault, as
# `VAULT_TOKEN=vault:login` does: ENTRYPOINT ["/app/busybox.sh"]. It takes no more than a busybox with
# UNIX sockets in its nc (FEATURE_UNIX_LOCAL): Alpine's has them, Debian's not.
#
# The token is for the process that connects, and lives as long: so nc connects and becomes this script
# once more, which is no other program, as both are busybox. Its input is the answer then, its output
# the socket, where who speaks gets nothing: the real output waits at 9.
socket=/run/authproxy/authproxy.sock
[ "$1" = answered ] || exec nc "local:$socket" -e "$0" answered "$@" 9>&1
shift
read -r grant
exec </dev/null >&9 9>&-

member() { # of the answer; "" where it has none
  case $grant in *"\"$1\":\""*) value=${grant#*"\"$1\":\""} && printf %b "${value%%\"*}" ;; esac
}
VAULT_TOKEN=$(member token) VAULT_ADDR=$(member address) VAULT_CACERT_BYTES=$(member ca)
if [ -z "$VAULT_TOKEN" ]; then
  echo "authproxy: ${grant:-no answer}" >&2 # "unavailable": may be asked again
  exit 75
fi
export VAULT_TOKEN VAULT_ADDR VAULT_CACERT_BYTES
exec "$@"
