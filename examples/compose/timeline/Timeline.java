// Makes an entry in the ledger every second, over TLS where both sides show a certificate. The
// files are read each time, for they change while this runs.

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Timeline {
  static final URI LEDGER = URI.create("https://ledger.production.example.io:8443/");
  static final int PATIENCE_MS = 10_000;
  static final char[] NO_PASSWORD = {}; // a key store that never leaves this memory

  public static void main(String[] arguments) throws InterruptedException {
    Path tls = Path.of(System.getenv("TLS_DIR"));
    for (;; Thread.sleep(1000)) {
      try {
        System.out.println(ask(trust(tls)));
      } catch (IOException | GeneralSecurityException error) {
        System.out.println(error); // asked again in a second
      }
    }
  }

  static String ask(SSLContext trust) throws IOException {
    HttpsURLConnection connection = (HttpsURLConnection) LEDGER.toURL().openConnection();
    connection.setSSLSocketFactory(trust.getSocketFactory());
    connection.setConnectTimeout(PATIENCE_MS);
    connection.setReadTimeout(PATIENCE_MS);
    try (var answer = connection.getInputStream()) {
      return new String(answer.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  static SSLContext trust(Path tls) throws IOException, GeneralSecurityException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    Certificate[] own = {certificate(tls.resolve("certificate"))};
    store.setKeyEntry("own", key(tls.resolve("private_key")), NO_PASSWORD, own);
    store.setCertificateEntry("ca", certificate(tls.resolve("issuing_ca")));
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(store, NO_PASSWORD);
    TrustManagerFactory trusted = TrustManagerFactory.getInstance("PKIX");
    trusted.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trusted.getTrustManagers(), null);
    return context;
  }

  static Certificate certificate(Path pem) throws IOException, GeneralSecurityException {
    try (var bytes = Files.newInputStream(pem)) {
      return CertificateFactory.getInstance("X.509").generateCertificate(bytes);
    }
  }

  static PrivateKey key(Path pem) throws IOException, GeneralSecurityException {
    String base64 = Files.readString(pem).replaceAll("-----[^-]+-----|\\s", "");
    byte[] pkcs8 = Base64.getDecoder().decode(base64);
    return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
  }
}
