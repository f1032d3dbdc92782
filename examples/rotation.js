// A service whose database user is a new one every few hours, and which drops no query for it:
// docker run … -e AUTHPROXY_WATCH=1 -e AUTHPROXY_ON_CHANGE=SIGHUP \
//   -e DB_USER_FILE=vault:database/creds/app#username \
//   -e DB_PASSWORD_FILE=vault:database/creds/app#password …
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";

const { DB_PORT, DB_USER_FILE, DB_PASSWORD_FILE } = process.env;
const connect = () =>
  postgres({
    host: "127.0.0.1",
    port: DB_PORT,
    database: "postgres",
    user: readFileSync(DB_USER_FILE, "utf8"),
    password: readFileSync(DB_PASSWORD_FILE, "utf8"),
  });

let database = connect();
process.on("SIGHUP", () => {
  const before = database;
  database = connect(); // for every query from now on
  before.end(); // when those that it has are answered
});

let stopping = false;
process.on("SIGTERM", () => {
  stopping = true;
});

let queries = 0;
let logins = 0;
for (let known; !stopping; await sleep(20)) {
  const [row] = await database`select current_user as user, pg_backend_pid() as login from ledger`;
  queries++;
  if (row.login !== known) console.log(`login ${++logins}: ${row.user}`);
  known = row.login;
}
await database.end();
console.log(`ended after ${queries} queries`);
