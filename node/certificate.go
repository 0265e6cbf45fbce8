package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/idna"

	"github.com/posthouse-im/posthouse/node/settings"

	"github.com/posthouse-im/posthouse/defaults"
)

const (
	// certificatePoll is how often the files are looked at. A change is taken up when two looks agree, so that a
	// certificate is not read between its being replaced and its key being replaced.
	certificatePoll = 5 * time.Second
	// expiryPoll is how often the dates are looked at.
	expiryPoll = time.Hour
)

// CertificateOptions say where the certificate is and who wants to know about it.
type CertificateOptions struct {
	// Certificate and Key are PEM files.
	Certificate, Key string
	// Domain that the certificate must be good for.
	Domain string
	// Log is required. Health and Registry may be nil.
	Log      *slog.Logger
	Health   *Health
	Registry prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time `default:"now"`
	// Swapped, when not nil, is called after a new certificate is in use: who keeps session tickets makes new keys for
	// them.
	Swapped func()
}

// Certificates holds the certificate of the domain and replaces it when its files change. A file that is not right
// leaves the old one in use. Get may be called from any goroutine.
type Certificates struct {
	options CertificateOptions
	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // guards what follows; held while files are read
	stamps  [2]stamp   // of the files in use, or refused
	seen    [2]stamp   // at the last look
	alarmed int        // the days of the last alarm, 0 for none

	expiry  prometheus.Gauge
	reloads *prometheus.CounterVec
}

// stamp tells one state of a file from another.
type stamp struct {
	changed time.Time
	size    int64
}

// NewCertificates reads the certificate for the first time. An expired one is taken, with an alarm, because refusing to
// start would turn trouble into an outage; everything else that is wrong is an error.
func NewCertificates(o CertificateOptions) (*Certificates, error) {
	defaults.Fill(&o)
	c := &Certificates{options: o}
	c.expiry = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "posthouse_node_certificate_expiry_timestamp_seconds",
		Help: "Unix time at which the certificate in use ends.",
	})
	c.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_node_certificate_reloads_total",
		Help: "Attempts to read the certificate again, by result: swapped or refused.",
	}, []string{"result"})
	if o.Registry != nil {
		o.Registry.MustRegister(c.expiry, c.reloads)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamps = c.look()
	c.seen = c.stamps
	cert, err := c.read(false)
	if err != nil {
		return nil, err
	}
	c.use(cert)
	return c, nil
}

// Get returns the certificate in use. It has the form of tls.Config.GetCertificate.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Reload reads the files again, whether they have changed or not. On error the old certificate stays in use, and health
// and log say so.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	c.stamps = c.look()
	c.seen = c.stamps
	err := c.reload()
	c.mu.Unlock()
	if err == nil && c.options.Swapped != nil {
		c.options.Swapped()
	}
	return err
}

// reload needs mu.
func (c *Certificates) reload() error {
	cert, err := c.read(true)
	if err != nil {
		c.reloads.WithLabelValues("refused").Inc()
		c.options.Log.Error("the new certificate is refused; the old one stays in use", "error", err)
		c.health("certificate", err.Error()+"; the old certificate stays in use")
		return err
	}
	c.use(cert)
	c.health("certificate", "")
	c.reloads.WithLabelValues("swapped").Inc()
	c.options.Log.Info("a new certificate is in use", "file", c.options.Certificate, "until", cert.Leaf.NotAfter)
	return nil
}

// read parses and checks the files.
func (c *Certificates) read(strict bool) (*tls.Certificate, error) {
	o := c.options
	info, err := os.Stat(o.Key)
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	if loose := settings.Loose(info); loose != "" {
		return nil, fmt.Errorf("the private key %s %s: chmod 600 %[1]s", o.Key, loose)
	}
	cert, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s with its key %s: %w", o.Certificate, o.Key, err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read the certificate %s: %w", o.Certificate, err)
		}
	}
	if err := CheckName(cert.Leaf, o.Domain); err != nil {
		return nil, fmt.Errorf("the certificate %s: %w", o.Certificate, err)
	}
	now := o.Now()
	if now.Before(cert.Leaf.NotBefore) && strict {
		return nil, fmt.Errorf("the certificate %s is good only from %s on", o.Certificate,
			cert.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if now.After(cert.Leaf.NotAfter) && strict {
		return nil, fmt.Errorf("the certificate %s has ended on %s", o.Certificate,
			cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &cert, nil
}

// CheckName reports whether a certificate is good for a domain, which may be internationalised.
func CheckName(leaf *x509.Certificate, domain string) error {
	name := domain
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		name = ascii
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return fmt.Errorf("it is not good for the domain %s (it names: %v)", domain, leaf.DNSNames)
	}
	return nil
}

// use needs mu.
func (c *Certificates) use(cert *tls.Certificate) {
	c.current.Store(cert)
	c.alarmed = 0
	c.expiry.Set(float64(cert.Leaf.NotAfter.Unix()))
	c.checkExpiry()
}

// checkExpiry raises an alarm 21, 7 and 1 days before the end, once each, and when it has come. It needs mu.
func (c *Certificates) checkExpiry() {
	leaf := c.current.Load().Leaf
	left := leaf.NotAfter.Sub(c.options.Now())
	text, step := "", 0
	for _, days := range []int{21, 7, 1} {
		if left <= time.Duration(days)*24*time.Hour {
			step = days
			text = fmt.Sprintf("the certificate ends in less than %d days, on %s", days,
				leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if left <= 0 {
		step, text = -1, "the certificate has ended on "+leaf.NotAfter.UTC().Format(time.RFC3339)+
			": clients refuse to connect"
	}
	c.health("certificate_expiry", text)
	if step == c.alarmed {
		return
	}
	c.alarmed = step
	switch {
	case step == 0:
	case step <= 1:
		c.options.Log.Error(text, "file", c.options.Certificate)
	default:
		c.options.Log.Warn(text, "file", c.options.Certificate)
	}
}

func (c *Certificates) health(check, text string) {
	if c.options.Health != nil {
		c.options.Health.Degrade(check, text)
	}
}

// look returns the state of both files; a missing one has the zero stamp.
func (c *Certificates) look() (s [2]stamp) {
	for i, path := range []string{c.options.Certificate, c.options.Key} {
		if info, err := os.Stat(path); err == nil { // follows links, as certificate managers use them
			s[i] = stamp{changed: info.ModTime(), size: info.Size()}
		}
	}
	return s
}

// poll takes a change up when the files were the same at two looks.
func (c *Certificates) poll() {
	c.mu.Lock()
	now := c.look()
	settled := now == c.seen
	c.seen = now
	if now == c.stamps || !settled {
		c.mu.Unlock()
		return
	}
	c.stamps = now
	err := c.reload()
	c.mu.Unlock()
	if err == nil && c.options.Swapped != nil {
		c.options.Swapped()
	}
}

// Run watches the files and the dates until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	files, dates := time.NewTicker(certificatePoll), time.NewTicker(expiryPoll)
	defer files.Stop()
	defer dates.Stop()
	for {
		select {
		case <-files.C:
			c.poll()
		case <-dates.C:
			c.mu.Lock()
			c.checkExpiry()
			c.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

// CheckCertificate reports what is wrong with a configured certificate, as a node would find at a reload.
func CheckCertificate(c TLSConfig, domain string) error {
	one := &Certificates{options: CertificateOptions{Certificate: c.Certificate, Key: c.Key, Domain: domain,
		Now: time.Now}}
	_, err := one.read(true)
	return err
}
