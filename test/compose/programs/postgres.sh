#!/bin/sh
# As the official image's entrypoint, as far as the example uses it: the first start makes the
# database of POSTGRES_USER, whose password is in POSTGRES_PASSWORD_FILE; on the socket no password
# is asked for.
set -eu
export PGDATA=/var/lib/postgresql/data
: "${POSTGRES_USER:=postgres}"
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  initdb --no-sync --no-locale --encoding=UTF8 --username="$POSTGRES_USER" \
    --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  [ "$POSTGRES_USER" = postgres ] ||
    echo "CREATE DATABASE $POSTGRES_USER" | postgres --single postgres
fi
exec "$@" -c listen_addresses='*' -c fsync=off
