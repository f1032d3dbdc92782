// Question: how does a client use the files that authproxy wrote, to be known to a server?
// Input:    TLS_DIR, the directory of TLS_DIR=>>vault:pki/issue/…#*; PORT and NAME of the server.
// Output:   what the server says.
const { readFileSync } = require("node:fs");
const { connect } = require("node:tls");

const { NAME, PORT, TLS_DIR } = process.env;
const socket = connect({
  host: "127.0.0.1",
  port: Number(PORT),
  servername: NAME,
  cert: readFileSync(`${TLS_DIR}/certificate`),
  key: readFileSync(`${TLS_DIR}/private_key`),
  // The CA that issued both, and not all that the root above it has issued.
  ca: readFileSync(`${TLS_DIR}/issuing_ca`),
  allowPartialTrustChain: true,
});
socket.on("data", (text) => process.stdout.write(`the server says: ${text}`));
socket.on("error", (error) => console.log(error.code));
process.on("SIGTERM", () => process.exit(0));
setInterval(() => {}, 60_000);
