// Makes an entry in the ledger every second, over TLS where both sides show a certificate. The
// files are read each time, for they change while this runs.

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Timeline {
  static final URI LEDGER = URI.create("https://ledger.production.example.io:8443/");
  static final int PATIENCE_MS = 10_000;

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
    char[] password = Files.readString(tls.resolve("keystore.password")).toCharArray();
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(KeyStore.getInstance(tls.resolve("keystore.p12").toFile(), password), password);
    TrustManagerFactory trusted = TrustManagerFactory.getInstance("PKIX");
    trusted.init(KeyStore.getInstance(tls.resolve("truststore.p12").toFile(), password));
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trusted.getTrustManagers(), null);
    return context;
  }
}
