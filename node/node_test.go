package node

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/node/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(t *testing.T, sets ...string) Config {
	t.Helper()
	flags := []settings.Assignment{
		{Flag: "--data", Path: "data", Value: filepath.Join(t.TempDir(), "data")},
		{Flag: "--set", Path: "listen.metrics.address", Value: "127.0.0.1:0"},
	}
	for _, s := range sets {
		path, value, _ := strings.Cut(s, "=")
		flags = append(flags, settings.Assignment{Flag: "--set", Path: path, Value: value})
	}
	c, _, problems := LoadConfig("", nil, flags)
	require.Empty(t, problems)
	return c
}

// TestRun starts a node without XMPP parts, looks at its private listener, and stops it.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var banner, log bytes.Buffer
	var address string
	var during, stopping report
	err := Run(ctx, Options{
		Config: testConfig(t, "log.format=json", "listen.metrics.profiles=true"), Version: "test", Log: &log,
		Banner:  &banner,
		Command: "bin/posthouse", Signals: newSignals(),
		Assemble: func(_ context.Context, s *Runtime) error {
			s.Group.Add(Part{Name: "xmpp", Start: func(context.Context, func(error)) error {
				s.Announce(Listening{Kind: "xmpp", Address: "127.0.0.1:5222"})
				s.Announce(Listening{Kind: "http", Address: "127.0.0.1:5280"})
				require.Equal(t, 503, get(t, address0(s), "/health/ready", nil),
					"not ready before everything has started")
				require.Equal(t, 200, get(t, address0(s), "/health/live", nil))
				return nil
			}, Stop: func(context.Context) error {
				require.Equal(t, 503, get(t, address, "/health/ready", &stopping))
				return nil
			}})
			return nil
		},
		Started: func(s *Runtime) {
			address = address0(s)
			require.Equal(t, 200, get(t, address, "/health/ready", &during))
			var metrics bytes.Buffer
			response, err := http.Get("http://" + address + "/metrics")
			require.NoError(t, err)
			_, err = metrics.ReadFrom(response.Body)
			require.NoError(t, err)
			response.Body.Close()
			require.Contains(t, metrics.String(), `posthouse_node_build_info{go="`)
			require.Contains(t, metrics.String(), "posthouse_node_certificate_expiry_timestamp_seconds")
			require.Equal(t, 200, get(t, address, "/debug/pprof/goroutine", nil))
			require.Equal(t, 404, get(t, address, "/", nil))
			cancel()
		},
	})
	require.NoError(t, err)
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, "ready", during.Status)
	require.Equal(t, "full", during.Notes["durability"])
	require.Equal(t, "stopping", stopping.Status)
	require.Contains(t, banner.String(), "bin/posthouse user add alice")
	require.Contains(t, banner.String(), "ws://127.0.0.1:5280/xmpp-websocket")
	require.Contains(t, banner.String(), "alice@localhost")
	for line := range strings.Lines(log.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func address0(s *Runtime) string { return s.Listening()[0].Address }

func get(t *testing.T, address, path string, into any) int {
	t.Helper()
	response, err := http.Get("http://" + address + path)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	if into != nil {
		require.NoError(t, json.Unmarshal(body, into))
	}
	return response.StatusCode
}

// TestProfilesAreOptIn: what is in memory is not shown unless somebody asked for it.
func TestProfilesAreOptIn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, Run(ctx, Options{Config: testConfig(t), Log: io.Discard, Signals: newSignals(),
		Started: func(s *Runtime) {
			require.Equal(t, 404, get(t, address0(s), "/debug/pprof/heap", nil))
			cancel()
		}}))
	http.DefaultClient.CloseIdleConnections()
}

func TestBannerInChinese(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var banner bytes.Buffer
	require.NoError(t, Run(ctx, Options{Config: testConfig(t), Log: io.Discard, Banner: &banner,
		Language: "zh_CN.UTF-8",
		Command:  "posthouse", Signals: newSignals(), Started: func(*Runtime) { cancel() }}))
	require.Contains(t, banner.String(), "添加用户")
	require.Contains(t, banner.String(), "posthouse user add alice")
	require.Equal(t, 8, width("数据目录"))
}

// TestDataFolderIsExclusive: A161, the second process learns who has the folder.
func TestDataFolderIsExclusive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	first, err := OpenFolder(dir)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm())

	_, err = OpenFolder(dir)
	require.ErrorContains(t, err, "is in use by process")
	require.ErrorContains(t, err, "stop that node")
	require.NoError(t, first.Close())

	again, err := OpenFolder(dir)
	require.NoError(t, err, "the lock ends with its process, not with the file")
	require.Equal(t, filepath.Join(dir, Database), again.File(Database))
	require.NoError(t, again.Close())
}

func TestDataFolderMode(t *testing.T) {
	dir := t.TempDir()
	make := func(name string, mode os.FileMode, file bool) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(path, 0o700))
		if file {
			require.NoError(t, os.WriteFile(filepath.Join(path, "x"), nil, 0o600))
		}
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	open := make("empty", 0o777, false)
	require.NoError(t, MakeFolder(open))
	info, err := os.Stat(open)
	require.NoError(t, err)
	require.EqualValues(t, 0o700, info.Mode().Perm(), "an empty folder is made private")

	require.NoError(t, MakeFolder(make("readable", 0o755, true)))
	require.ErrorContains(t, MakeFolder(make("writable", 0o775, true)), "can be written by others")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, MakeFolder(file), "is not a folder")
}

// TestSignals: A159. Twice is faster, a storm of SIGHUP is one reload that waits.
func TestSignals(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSignals()
	go s.run(cancel, NewLog(LogConfig{}, io.Discard))
	for range 10 {
		s.in <- syscall.SIGHUP
	}
	<-s.Reload
	s.in <- syscall.SIGTERM
	<-ctx.Done()
	select {
	case <-s.Hurry:
		t.Fatal("in a hurry after one signal")
	default:
	}
	s.in <- syscall.SIGTERM
	<-s.Hurry
	s.in <- syscall.SIGTERM // a third one does no harm
	close(s.in)
	<-s.done
	require.LessOrEqual(t, len(s.Reload), 1)
}

// TestReload: SIGHUP reads the certificate again, and calls whoever asked.
func TestReload(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	signals := newSignals()
	reloaded, swapped := make(chan struct{}), 0
	require.NoError(t, Run(ctx, Options{Config: testConfig(t), Log: io.Discard, Signals: signals,
		Assemble: func(_ context.Context, s *Runtime) error {
			s.OnCertificate(func() { swapped++ })
			s.OnReload(func() error { close(reloaded); return nil })
			return nil
		},
		Started: func(*Runtime) {
			signals.Reload <- struct{}{}
			<-reloaded
			cancel()
		}}))
	require.Equal(t, 1, swapped)
}

func TestHealthPhases(t *testing.T) {
	h := NewHealth(nil)
	status := func() string { r, _ := h.report(); return r.Status }
	require.Equal(t, "starting", status())
	h.Phase("ready")
	require.Equal(t, "ready", status())
	h.Degrade("certificate", "ends soon")
	require.Equal(t, "degraded", status())
	h.Fail("storage", "full")
	require.Equal(t, "failing", status())
	_, ready := h.report()
	require.False(t, ready)
	h.Fail("storage", "")
	require.Equal(t, "degraded", status())
	h.Degrade("certificate", "")
	require.Equal(t, "ready", status())
	h.Phase("stopping")
	require.Equal(t, "stopping", status())
}

func TestListenErrors(t *testing.T) {
	c := testConfig(t)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, Run(ctx, Options{Config: c, Log: io.Discard, Signals: newSignals(), Started: func(s *Runtime) {
		second := testConfig(t, "listen.metrics.address="+address0(s))
		err := Run(t.Context(), Options{Config: second, Log: io.Discard, Signals: newSignals()})
		require.ErrorContains(t, err, "another program listens there")
		cancel()
	}}))
}

func TestDescriptorWarning(t *testing.T) {
	require.Empty(t, descriptorWarning(1<<20))
	require.Contains(t, descriptorWarning(1024), "LimitNOFILE=1048576")
}

// TestConfigRules is the table of what the configuration as a whole must satisfy.
func TestConfigRules(t *testing.T) {
	for _, test := range []struct{ sets, what, remedy string }{
		{"domain=example.org", "", ""},
		{"domain=Example.ORG", "not in canonical form", "write it as example.org"},
		{"domain=a@b", "not a domain name", "after the @"},
		{"domain=", "not a domain name", "after the @"},
		{"data=", "the data folder is empty", "name a folder"},
		{"listen.xmpp.address=127.0.0.1", "not an address to listen on", "an IP address and a port"},
		{"listen.xmpp.address=example.org:5222", "not an address to listen on", "an IP address"},
		{"listen.xmpp.address=127.0.0.1:xmpp", "not an address to listen on", "an IP address"},
		{"listen.xmpp.address=127.0.0.1:5223", "taken already by listen.xmpp", "a port of its own"},
		{"listen.xmpp.address=", "", ""},
		{"listen.xmpp.address=:5222", "can be reached from other machines, and there is no certificate",
			"tls.certificate"},
		{"listen.xmpp_tls.address=0.0.0.0:5223", "there is no certificate", "tls.certificate"},
		{"listen.xmpp.address=[::1]:5222,localhost:5224", "", ""},
		{"listen.xmpp.address=:5222 tls.self_signed=true", "", ""},
		{"listen.http.address=:5280", "without TLS", "listen.http.tls: true"},
		{"listen.http.address=:5280 listen.http.tls=true", "", ""},
		{"listen.http.address=:5280 listen.http.proxy_from=10.1.2.3", "", ""},
		{"listen.http.proxy_from=10.1.2.3/8", "bits beyond its length; 10.0.0.0/8", "list of"},
		{"listen.http.proxy_from=::ffff:10.0.0.0/104", "mapped", "list of"},
		{"listen.http.origins=https://a.example,http://localhost:8080", "", ""},
		{"listen.http.origins=https://a.example/", "not a web origin", "https://chat.example.org"},
		{"listen.http.origins=a.example", "not a web origin", "https://chat.example.org"},
		{"listen.http.base_url=https://chat.example.org/x", "", ""},
		{"listen.http.base_url=chat.example.org", "not the address of a web site", "https://"},
		{"tls.certificate=/tmp/c.pem", "one is missing", "or neither"},
		{"tls.key=/no/such/key", "one is missing", "or neither"},
		{"durability=maybe", "not a value", "full, relaxed"},
		{"registration=ajar", "not a value", "closed, open"},
		{"shutdown.timeout=0", "too small", "1s"},
	} {
		var flags []settings.Assignment
		for s := range strings.FieldsSeq(test.sets) {
			path, value, _ := strings.Cut(s, "=")
			flags = append(flags, settings.Assignment{Flag: "--set", Path: path, Value: value})
		}
		_, _, problems := LoadConfig("", nil, flags)
		if test.what == "" {
			require.Empty(t, problems, test.sets)
			continue
		}
		require.NotEmpty(t, problems, test.sets)
		require.Contains(t, problems[0].String(), test.what, test.sets)
		require.Contains(t, problems[0].Remedy, test.remedy, test.sets)
	}
}

func TestLogFormats(t *testing.T) {
	for format, want := range map[string]string{"text": "level=WARN", "json": `"level":"WARN"`,
		"auto": `"level":"WARN"`} {
		var b bytes.Buffer
		log := NewLog(LogConfig{Level: "warn", Format: format}, &b)
		log.Info("quiet")
		log.Warn("loud", "took", time.Second)
		require.Contains(t, b.String(), want)
		require.NotContains(t, b.String(), "quiet")
	}
}
