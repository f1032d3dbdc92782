#!/bin/sh
# Question: what must Vault know before the services start? Who runs it is an administrator there:
#   docker compose exec -T openbao sh <vault.sh
# Promise:  nothing secret is printed, and nobody has seen the password that it makes.
set -eu

# A certificate of its own for each start, of minutes, for one name.
bao secrets enable pki
bao write -field=serial_number pki/root/generate/internal common_name=production key_type=ec
for service in ledger timeline; do
  name=$service.production.example.io
  bao write "pki/roles/$service" allowed_domains="$name" allow_bare_domains=true \
    allow_localhost=false allow_ip_sans=false cn_validations=hostname key_type=ec \
    ttl=30m max_ttl=30m generate_lease=true
done

# What each may do, and no more.
secret='path "secret/data/ledger" { capabilities = ["read"] }'
issue() {
  echo "path \"pki/issue/$1\" { capabilities = [\"update\"]
    allowed_parameters = { common_name = [] } }"
}
echo "$secret" | bao policy write postgres -
{ echo "$secret"; issue ledger; } | bao policy write ledger -
issue timeline | bao policy write timeline -

# The authproxy server mints their tokens, renews and revokes them; it reads no secret.
for service in postgres ledger timeline; do
  bao write "auth/token/roles/$service" allowed_policies="$service" orphan=true token_period=1h
done
{
  for call in create/postgres create/ledger create/timeline renew-accessor revoke-accessor renew-self; do
    echo "path \"auth/token/$call\" { capabilities = [\"update\"] }"
  done
  echo 'path "auth/token/lookup-self" { capabilities = ["read"] }'
} | bao policy write authproxy -
bao auth enable approle
bao write auth/approle/role/authproxy token_policies=authproxy token_no_default_policy=true \
  token_period=1h
bao write auth/approle/role/authproxy/role-id role_id=authproxy

head -c 24 /dev/urandom | base64 | tr -d '\n' | bao kv put -mount=secret ledger password=-
