// Question: how does a server that reads PEM follow a certificate that is renewed?
// Input:    CERTIFICATE_FILE (its own, and that of the CA which issued it), KEY_FILE.
// Output:   its port, once; each connection gets "hello" over TLS. On SIGHUP it reads the files again.
const { readFileSync } = require("node:fs");
const { createServer } = require("node:tls");

const files = () => ({
  cert: readFileSync(process.env.CERTIFICATE_FILE),
  key: readFileSync(process.env.KEY_FILE),
});
const server = createServer(files(), (socket) => socket.on("error", () => {}).end("hello\n"));
process.on("SIGHUP", () => server.setSecureContext(files()));
process.on("SIGTERM", () => process.exit(0));
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}.`));
