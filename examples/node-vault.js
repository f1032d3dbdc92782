// An application on node-vault that asks for its token itself:
// ENTRYPOINT ["node", "--disable-sigusr1", "/app/node-vault.js"]
import vault from "node-vault";
import { getToken } from "/authproxy/authproxy.js";

const { token, vault: place } = await getToken();
const client = vault({
  endpoint: place.address,
  token,
  namespace: place.namespace,
  requestOptions: { ca: place.ca },
});
const { data } = await client.read("secret/data/app");
console.log(`started with a password of ${data.data.password.length} characters`);
