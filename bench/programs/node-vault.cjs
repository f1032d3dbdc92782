// What many people do today: a Node application that has a token in its environment, and reads its
// secret by node-vault. Its first instruction with the secret says when it runs, as first.c does.
// Usage: VAULT_ADDR=… VAULT_TOKEN=… CA=FILE node node-vault.cjs
const { readFileSync } = require("node:fs");
const vault = require("node-vault");

const { VAULT_ADDR, VAULT_TOKEN, CA } = process.env;
const requestOptions = { ca: readFileSync(CA) };
const client = vault({ endpoint: VAULT_ADDR, token: VAULT_TOKEN, requestOptions });
client.read("secret/data/app").then(({ data }) => {
  if (data.data.password) process.stdout.write(`first ${process.hrtime.bigint()}\n`);
});
