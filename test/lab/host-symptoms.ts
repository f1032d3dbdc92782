// Question: what brings about each symptom that docs/operate.md lists?
// Output:   for each the lines of shell that do, on a host whose service serves the image `timeline`.

export const CONFIG = "/etc/authproxy/authproxy.json";

/** A container that the policy does not know yet; more options, image and command are to follow. */
export const RUN = `docker run --read-only --cap-drop ALL --network host \
  -v /run/authproxy:/run/authproxy:ro -e AUTHPROXY_WAIT=2 \
  --tmpfs /run/authproxy-secrets:mode=0700,uid=1001,gid=1001 \
  -e DB_PASSWORD_FILE=vault:secret/data/timeline#password`;
const END = "-l app=timeline timeline true";
const ASK = `${RUN} --rm ${END}`;

/** By what the container says. */
export const inContainers: Record<string, string> = {
  "the server refused this container": `${RUN} timeline true`,
  "only a container's first process is served": `${RUN} --init ${END}`,
  "there is no directory /run/authproxy": ASK.replace(/-v \S+/, ""),
  "/run/authproxy/authproxy.sock gives ECONNREFUSED": `
    systemctl stop authproxy.socket authproxy.service
    ${ASK}; code=$?
    systemctl start authproxy.socket authproxy.service; exit $code`,
  "could not give a token in time": `
    cp -p /etc/authproxy/secret_id /tmp; echo wrong > /etc/authproxy/secret_id
    systemctl restart authproxy
    ${ASK}; code=$?
    cp -p /tmp/secret_id /etc/authproxy; systemctl restart authproxy; exit $code`,
  "/run/authproxy-secrets cannot be used: ENOENT": ASK.replace(/--tmpfs \S+/, ""),
  "the secret has no such key": ASK.replace("#password", "#other"),
  "Vault denies this service the path": ASK.replace("data/timeline", "data/other"),
  "is unavailable: ENETUNREACH": ASK.replace("--network host", "--network none"),
};

const DROP_IN = "/etc/systemd/system/authproxy.service.d";
const withGroup = (line: string) => `mkdir ${DROP_IN}
  printf '[Service]\\nSupplementaryGroups=\\n${line}' > ${DROP_IN}/group.conf
  systemctl daemon-reload; systemctl restart authproxy`;
const withoutDropIn = `rm -r ${DROP_IN}; systemctl daemon-reload`;
const readableNode = "-v /opt/authproxy/current/bin/node:/usr/local/bin/node:ro";
const connect = 'require("net").connect("/run/authproxy/authproxy.sock")';

/** By what the journal says; `undo` heals it. */
export const inJournal: Record<string, { cause: string; undo?: string }> = {
  "process.dumpable": { cause: ASK.replace("--rm", `--rm ${readableNode}`) },
  '"reason":"readonly"': { cause: ASK.replace("--read-only", "") },
  '"reason":"once"': { cause: ASK.replace("timeline true", `timeline node -e '${connect}'`) },
  "status=243/CREDENTIALS": {
    cause: "mv /etc/authproxy/secret_id /tmp; systemctl restart authproxy",
    undo: "mv /tmp/secret_id /etc/authproxy",
  },
  "status=216/GROUP": { cause: withGroup("SupplementaryGroups=nobodys"), undo: withoutDropIn },
  "permission denied, open '/etc/authproxy/": {
    cause: `chmod 0600 ${CONFIG}; systemctl restart authproxy`,
    undo: `chmod 0640 ${CONFIG}`,
  },
  "is not JSON (line": {
    cause: `cp -p ${CONFIG} /tmp/good; echo '{' > ${CONFIG}; systemctl restart authproxy`,
    undo: `cp -p /tmp/good ${CONFIG}`,
  },
  "connect EACCES /var/run/docker.sock": {
    cause: `${withGroup("")}; ${ASK}`,
    undo: withoutDropIn,
  },
  "invalid role or secret ID": {
    cause: `cp -p /etc/authproxy/secret_id /tmp; echo wrong > /etc/authproxy/secret_id
      systemctl restart authproxy`,
    undo: "cp -p /tmp/secret_id /etc/authproxy",
  },
};
