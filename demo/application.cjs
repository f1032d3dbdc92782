// The application of the demo. It proves that it has its secret without showing it: whoever knows
// the password can compute the same hash, and nobody can compute the password from the hash.
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");

const password = readFileSync(process.env.DB_PASSWORD_FILE);
console.log(`sha256 of my password: ${createHash("sha256").update(password).digest("hex")}`);
process.on("SIGTERM", () => process.exit(0));
setInterval(() => {}, 60_000);
