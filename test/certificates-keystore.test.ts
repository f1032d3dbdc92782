// Question: do Java and OpenSSL read what the client makes of a PKI engine's answer, and however it is
//           delivered?
// Input:    answers of a real OpenBao, for each kind of key.
import { execFileSync } from "node:child_process";
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { withKeystores } from "../client/keystore/fields.ts";
import { makeTruststore } from "../client/keystore/pkcs12.ts";
import { bundleClient } from "../scripts/build.ts";
import { jdk } from "./certificates-jdk.ts";
import { admit, mountPki, nameOf } from "./certificates-pki.ts";
import { answer, newPlace, node, Playground, run, secretBytes } from "./client-playground.ts";
import { bao, grant, root } from "./client-vault.ts";
import { memoryDirectory } from "./memory.ts";

const directory = memoryDirectory();

await mountPki(bao);

type Issued = { certificate: string; private_key: string; issuing_ca: string; ca_chain: string[] };
type Stores = { keystore: string; truststore: string; password: string };

async function issue(keyType: string): Promise<Issued> {
  await admit(bao, keyType, keyType);
  return (await root.write(`pki/issue/${keyType}`, { common_name: nameOf(keyType), ttl: "1h" }))
    .data;
}

/** What the client makes of it, as files. */
function store(issued: Issued): Stores {
  const fields = withKeystores(issued);
  const write = (name: string) => {
    const path = join(directory, name);
    writeFileSync(path, fields[name] as Uint8Array);
    return path;
  };
  const password = String(fields["keystore.password"]);
  return { keystore: write("keystore.p12"), truststore: write("truststore.p12"), password };
}

const fingerprint = (pem: string) => new X509Certificate(pem).fingerprint256;
const list = (path: string, password: string) =>
  jdk("keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", path, "-storepass", password);
const fingerprintsOf = (listed: string) => [...listed.matchAll(/SHA256: (\S+)/g)].map(([, f]) => f);
function openssl(...args: string[]): string {
  // Some of what it says goes to standard error, some to standard output.
  return execFileSync("/bin/sh", ["-c", 'exec openssl "$@" 2>&1', "sh", ...args]).toString();
}

describe.each(["ec", "rsa", "ed25519"])("a key of %s", (keyType) => {
  test("is listed by keytool, with its chain", async () => {
    const issued = await issue(keyType);
    const { keystore, password } = store(issued);
    const listed = list(keystore, password);
    expect(listed).toContain("Your keystore contains 1 entry\n");
    expect(listed).toContain("Alias name: tls\n");
    expect(listed).toContain("Entry type: PrivateKeyEntry\nCertificate chain length: 3\n");
    const chain = [issued.certificate, ...issued.ca_chain];
    expect(fingerprintsOf(listed)).toEqual(chain.map(fingerprint));
  });
  test("is the same when OpenSSL extracts it", async () => {
    const issued = await issue(keyType);
    const { keystore, password } = store(issued);
    const words = ["-in", keystore, "-passin", `pass:${password}`, "-nocerts", "-nodes"];
    const [pem = ""] =
      /-----BEGIN.*-----END PRIVATE KEY-----\n/s.exec(openssl("pkcs12", ...words)) ?? [];
    const certificate = new X509Certificate(issued.certificate);
    expect(certificate.checkPrivateKey(createPrivateKey(pem))).toBe(true);
  });
});

test("the CA that issued it is trusted, and not the root above", async () => {
  const issued = await issue("ec");
  const { truststore, password } = store(issued);
  const listed = list(truststore, password);
  expect(listed).toContain("Your keystore contains 1 entry\n");
  expect(listed).toMatch(/Alias name: ca\n.*\nEntry type: trustedCertEntry\n/);
  expect(fingerprintsOf(listed)).toEqual([fingerprint(issued.issuing_ca)]);
});

describe("a keystore and a truststore", () => {
  test("are under PBES2 with AES-256 and HMAC-SHA-256, and a MAC of HMAC-SHA-256", async () => {
    const { keystore, truststore, password } = store(await issue("ec"));
    const scheme = "PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256";
    const head = ["MAC: sha256, Iteration 10000", "MAC length: 32, salt length: 20"];
    const certificates = [`PKCS7 Encrypted data: ${scheme}`, "Certificate bag"];
    const info = (path: string) =>
      openssl("pkcs12", "-info", "-noout", "-in", path, "-passin", `pass:${password}`)
        .trim()
        .split("\n");
    expect(info(keystore)).toEqual([
      ...head,
      ...certificates,
      "Certificate bag",
      "Certificate bag",
      "PKCS7 Data",
      `Shrouded Keybag: ${scheme}`,
    ]);
    expect(info(truststore)).toEqual([...head, ...certificates]);
  });
  test("open only with their password, and not after a byte was changed", async () => {
    const { keystore, password } = store(await issue("ec"));
    expect(() => list(keystore, `${password}x`)).toThrow(/password was incorrect/);
    const bytes = readFileSync(keystore);
    bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200);
    writeFileSync(keystore, bytes);
    expect(() => list(keystore, password)).toThrow(/password was incorrect/);
  });
  test("have one password a start, and another in each start", async () => {
    const issued = await issue("ec");
    const { password } = store(issued);
    expect(store(issued).password).toBe(password);
    expect(password).toMatch(/^[0-9a-f]{64}$/);
    const ours =
      "import('./client/keystore/fields.ts').then(({ withKeystores }) => console.log(" +
      "withKeystores(JSON.parse(process.argv[1]))['keystore.password']))";
    const another = execFileSync(process.execPath, ["-e", ours, JSON.stringify(issued)], {
      cwd: join(import.meta.dirname, ".."),
    });
    expect(another.toString().trim()).toMatch(/^[0-9a-f]{64}$/);
    expect(another.toString().trim()).not.toBe(password);
  });
  test("are made once, and only where they are read", async () => {
    const derive = vi.spyOn(process.getBuiltinModule("node:crypto"), "pbkdf2Sync");
    const fields = withKeystores(await issue("ec"));
    expect([Object.keys(fields), derive.mock.calls]).toEqual([
      expect.arrayContaining(["private_key", "keystore.p12", "truststore.p12"]),
      [],
    ]);
    expect(fields["truststore.p12"]).toBe(fields["truststore.p12"]);
    expect(derive).toHaveBeenCalledOnce();
  });
  test("hold any alias, and many certificates", () => {
    const certificate = new X509Certificate(bao.ca).raw;
    const path = join(directory, "many.p12");
    const aliases = ["größe", "two words", "😀"];
    const entries = Object.fromEntries(aliases.map((alias) => [alias, certificate]));
    writeFileSync(path, makeTruststore(entries, "a password"));
    const words = ["-J-Dfile.encoding=UTF-8", "-J-Dstdout.encoding=UTF-8"];
    const listed = jdk("keytool", ...words, "-list", "-keystore", path, "-storepass", "a password");
    expect(listed).toContain("3 entries");
    expect(listed.match(/trustedCertEntry/g)?.length).toBe(3);
    expect(listed).toContain("two words, ");
  });
});

test("an answer that is not of a PKI engine, or is in another format, stays as it is", async () => {
  const { private_key: _, ...signed } = await issue("ec");
  const der = { common_name: nameOf("ec"), format: "der" };
  const binary = (await root.write("pki/issue/ec", der)).data;
  for (const fields of [signed, binary, { password: "x" }, {}]) {
    expect(withKeystores(fields)).toBe(fields);
  }
});

describe("the bundle for Java", async () => {
  const bundle = join(directory, "authproxy.js");
  const { bytes } = await bundleClient("dist/authproxy-java.js");
  writeFileSync(bundle, bytes);
  await admit(bao, "java");
  await root.write("auth/token/roles/java", { allowed_policies: ["java"], orphan: true });
  const token = (await root.write("auth/token/create/java", {})).auth.client_token;
  secretBytes.add(token);
  const reference = (key: string) =>
    `>>vault:pki/issue/java#${key}#${JSON.stringify({ common_name: nameOf("java"), ttl: "1h" })}`;

  async function granted(environment: Record<string, string>, options: string[], script: string) {
    await using server = await Playground.open(answer(grant({ token })));
    const own = [
      "--socket",
      server.socket,
      "--files",
      directory,
      "--allow-write",
      "pki/issue/java",
    ];
    const client = [node, "--disable-sigusr1", bundle, ...own, ...options];
    return await run({ bare: true, environment, command: [...client, "/bin/sh", "-c", script] });
  }
  const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

  test("in dist/ was built from this source", () => {
    const built = readFileSync(join(import.meta.dirname, "../dist/authproxy-java.js"));
    expect(built.equals(bytes)).toBe(true);
  });
  test("writes a keystore as bytes to files and directories, and in base64 to variables", async () => {
    const environment = {
      K_FILE: reference("keystore.p12"),
      P_FILE: reference("keystore.password"),
      B: reference("keystore.p12"),
      D_DIR: reference("*"),
    };
    const script = 'cmp "$K_FILE" "$D_DIR/keystore.p12" && echo "$B" | base64 -d | sha256sum';
    const { exitCode, stdout } = await granted(environment, [], script);
    expect(exitCode).toBe(0);
    const bytes = readFileSync(join(directory, "K"));
    expect(stdout).toBe(`${hash(bytes)}  -\n`);
    const listed = list(join(directory, "K"), readFileSync(join(directory, "P"), "utf8"));
    expect(listed).toContain(`CN=${nameOf("java")}`);
  });
  test("writes a keystore in base64 to standard input", async () => {
    const store = join(newPlace(0o700), "store");
    const read = `
      const { K, P } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
      require("node:fs").writeFileSync("${store}", Buffer.from(K, "base64"));
      require("node:fs").writeFileSync("${store}.password", P);`;
    const environment = { K: reference("keystore.p12"), P: reference("keystore.password") };
    const script = `exec "$0" -e '${read}'`.replace("$0", node);
    const { exitCode, stderr } = await granted(environment, ["--stdin"], script);
    expect({ exitCode, stderr: stderr.replace(/.*warning: .*\n/g, "") }).toEqual({
      exitCode: 0,
      stderr: "",
    });
    const listed = list(store, readFileSync(`${store}.password`, "utf8"));
    expect(listed).toContain("PrivateKeyEntry");
  });
  test("alone makes keystores: in the other bundle there is no such key", async () => {
    await using server = await Playground.open(answer(grant({ token })));
    const own = ["--socket", server.socket, "--allow-write", "pki/issue/java"];
    const environment = { K: reference("keystore.p12") };
    const { exitCode, stderr } = await run({ options: own, environment });
    expect(exitCode).toBe(66);
    expect(stderr).toContain("the secret has no such key");
  });
});
