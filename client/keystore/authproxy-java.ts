// authproxy, the client for Java: ../authproxy.ts, with keystores beside the certificates of a PKI
// engine. This file is the entry of the bundle dist/authproxy-java.js, which is CommonJS.

import { start } from "../main.ts";
import { setFieldTransformer } from "../secrets.ts";
import { withKeystores } from "./fields.ts";

export { getSecrets, getToken } from "../module.ts";

setFieldTransformer(withKeystores);
if (require.main === module) start();
