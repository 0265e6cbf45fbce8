package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/net/idna"
)

const (
	// A development certificate is good for a year, and is made anew in its last month.
	selfSignedLife  = 365 * 24 * time.Hour
	selfSignedRenew = 30 * 24 * time.Hour
)

// SelfSigned returns the paths of a development certificate in the folder, for the domain and for this machine's own
// names. It makes one when there is none, when it is for another domain, or when it ends soon; made tells that it did.
func SelfSigned(folder, domain string, now time.Time) (certificate, key string, made bool, err error) {
	certificate, key = filepath.Join(folder, "development.crt"), filepath.Join(folder, "development.key")
	if selfSignedFits(certificate, key, domain, now) {
		return certificate, key, false, nil
	}
	if err := makeSelfSigned(certificate, key, domain, now); err != nil {
		return "", "", false, fmt.Errorf("make a development certificate: %w", err)
	}
	return certificate, key, true, nil
}

func selfSignedFits(certificate, key, domain string, now time.Time) bool {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	return err == nil && CheckName(leaf, domain) == nil && now.After(leaf.NotBefore) &&
		now.Add(selfSignedRenew).Before(leaf.NotAfter)
}

func makeSelfSigned(certificate, key, domain string, now time.Time) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Posthouse development certificate"},
		NotBefore:             now.Add(-time.Hour), // a client's clock may be a little behind
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(domain); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else {
		name := domain
		if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
			name = ascii
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := writePEM(key, "PRIVATE KEY", secret); err != nil {
		return err
	}
	return writePEM(certificate, "CERTIFICATE", der)
}

// writePEM replaces a file as a whole, readable by the owner only.
func writePEM(path, kind string, der []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it was renamed
	if err := pem.Encode(f, &pem.Block{Type: kind, Bytes: der}); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
