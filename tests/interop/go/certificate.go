package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// trustNobody is for connections inside this process, whose certificate is made on the spot.
var trustNobody = &tls.Config{InsecureSkipVerify: true}

// trusting takes the certificates of the file alone, and nothing at all without one.
func trusting(file string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", file)
		}
	}
	return &tls.Config{RootCAs: roots}, nil
}

// selfSigned is a certificate for 127.0.0.1.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}, err
}

func writeSelfSigned(folder string) error {
	pair, err := selfSigned()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	return errors.Join(err,
		writePEM(filepath.Join(folder, certFile), "CERTIFICATE", pair.Certificate[0]),
		writePEM(filepath.Join(folder, keyFile), "PRIVATE KEY", key))
}

func writePEM(file, kind string, body []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body}), 0o600)
}

const (
	certFile = "server.crt"
	keyFile  = "server.key"
)
