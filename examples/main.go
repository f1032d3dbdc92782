// A Go service that asks for its token itself: ENTRYPOINT ["/app/main"], in an empty image.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
)

func main() {
	server, err := net.Dial("unix", "/run/authproxy/authproxy.sock")
	check(err)
	var grant struct {
		Token, Error string
		Vault        struct{ Address, Ca string }
	}
	check(json.NewDecoder(server).Decode(&grant)) // send nothing: who speaks gets nothing
	if grant.Error != "" {
		log.Fatal("authproxy: ", grant.Error) // "unavailable": may be asked again
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM([]byte(grant.Vault.Ca))
	http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: trust}
	request, err := http.NewRequest("GET", grant.Vault.Address+"/v1/secret/data/app", nil)
	check(err)
	request.Header.Set("X-Vault-Token", grant.Token)
	answer, err := http.DefaultClient.Do(request)
	check(err)
	var secret struct {
		Data struct{ Data struct{ Password string } }
	}
	check(json.NewDecoder(answer.Body).Decode(&secret))
	fmt.Println("started with a password of", len(secret.Data.Data.Password), "characters")
}

func check(err error) {
	if err != nil {
		log.Fatal("authproxy: ", err)
	}
}
