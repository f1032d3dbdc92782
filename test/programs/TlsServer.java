// Question: how does a server in Java use the files that the client writes?
// Usage:    java TlsServer
//           TLS_DIR   the directory of TLS_DIR=>>vault:pki/issue/…#*: read anew for each connection, so
//                     that a renewed certificate is used without a restart
//           CRL_FILE  the list of revoked certificates, in PEM: who stands there is refused
//           Without them it is a server that knows nothing of all this, and takes what the properties
//           javax.net.ssl.keyStore, keyStorePassword, trustStore, trustStorePassword name, once.
// Output:   the port; what became of each connection. Who has no certificate is refused, others are
//           told their name.
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.X509CertSelector;
import java.util.Set;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

final class TlsServer {
  public static void main(String[] arguments) throws Exception {
    try (ServerSocket listening = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      System.out.println("listening on " + listening.getLocalPort() + ".");
      while (true) {
        try (Socket connection = listening.accept()) {
          System.out.println("served " + serve(connection));
        } catch (IOException problem) {
          System.out.println("refused: " + problem.getMessage());
        }
      }
    }
  }

  private static String serve(Socket connection) throws IOException, GeneralSecurityException {
    connection.setSoTimeout(10_000);
    SSLContext context = System.getenv("TLS_DIR") == null ? SSLContext.getDefault() : read();
    // With what was read of the client's bytes so far, which is nothing: a socket of the server's side.
    try (SSLSocket socket =
        (SSLSocket) context.getSocketFactory().createSocket(connection, (InputStream) null, true)) {
      socket.setNeedClientAuth(true);
      socket.startHandshake();
      String name = socket.getSession().getPeerPrincipal().getName();
      socket.getOutputStream().write(("hello " + name + "\n").getBytes());
      return name;
    }
  }

  private static SSLContext read() throws IOException, GeneralSecurityException {
    Path directory = Path.of(System.getenv("TLS_DIR"));
    char[] password = Files.readString(directory.resolve("keystore.password")).toCharArray();
    KeyStore own = KeyStore.getInstance(directory.resolve("keystore.p12").toFile(), password);
    KeyStore trusted = KeyStore.getInstance(directory.resolve("truststore.p12").toFile(), password);
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(own, password);
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(new CertPathTrustManagerParameters(notRevoked(trusted)));
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return context;
  }

  private static PKIXBuilderParameters notRevoked(KeyStore trusted)
      throws IOException, GeneralSecurityException {
    PKIXBuilderParameters parameters = new PKIXBuilderParameters(trusted, new X509CertSelector());
    try (InputStream list = Files.newInputStream(Path.of(System.getenv("CRL_FILE")))) {
      var lists = CertificateFactory.getInstance("X.509").generateCRLs(list);
      var store = CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists));
      parameters.addCertStore(store);
    }
    var checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX").getRevocationChecker();
    // The lists that are here: nothing is fetched, and where there is none, nobody gets in.
    checker.setOptions(Set.of(Option.PREFER_CRLS, Option.NO_FALLBACK));
    parameters.addCertPathChecker(checker);
    return parameters;
  }
}
