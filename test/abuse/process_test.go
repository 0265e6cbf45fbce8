package abuse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

// program builds the program once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("posthouse-abuse-%d", os.Getpid()))
	out, err := exec.Command("go", "build", "-o", path,
		"github.com/posthouse-im/posthouse/cmd/posthouse").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("posthouse-abuse-%d", os.Getpid())))
	os.Exit(code)
}

// process is a node that runs as a process of its own, with its log.
type process struct {
	t         *testing.T
	data      string
	args      []string
	cmd       *exec.Cmd
	endpoints script.Endpoints
	ended     chan struct{} // closed when it has ended

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Write takes the log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(strings.TrimSuffix(p.log.String(), "\n"), "\n")
}

// prepare returns a process that is not started yet, with an empty data folder.
func prepare(t *testing.T, settings ...string) *process {
	t.Helper()
	bin, err := program()
	require.NoError(t, err)
	p := &process{t: t, data: filepath.Join(t.TempDir(), "data"), args: []string{bin}}
	for _, s := range append([]string{
		"listen.xmpp.address=127.0.0.1:0", "listen.xmpp_tls.address=127.0.0.1:0", "listen.compact.address=127.0.0.1:0",
		"listen.http.address=127.0.0.1:0", "listen.metrics.address=127.0.0.1:0",
		"auth.iterations=4096", "auth.plain_without_tls=true", "auth.connections.rate=-1",
		"auth.connections.per_address=-1",
		"auth.failures.per_user=-1", "auth.failures.per_address=-1", "c2s.drain_time=1ms", "c2s.rate_bytes=-1",
		"c2s.rate_stanzas=-1", "data=" + p.data,
	}, settings...) {
		p.args = append(p.args, "--set", s)
	}
	return p
}

// addPeople makes accounts with the command line, with passwords from a pipe.
func (p *process) addPeople(names ...string) {
	p.t.Helper()
	for _, name := range names {
		add := exec.Command(p.args[0], append(p.args[1:len(p.args):len(p.args)], "user", "add", name, "--stdin")...)
		add.Stdin = strings.NewReader(password(name) + "\n")
		out, err := add.CombinedOutput()
		require.NoError(p.t, err, "%s", out)
	}
}

func (p *process) start(shell string) {
	p.t.Helper()
	command := append(p.args[:len(p.args):len(p.args)], "serve", "--quiet")
	if shell != "" {
		command = append([]string{"sh", "-ec", shell, "sh"}, command...)
	}
	p.cmd, p.ended = exec.Command(command[0], command[1:]...), make(chan struct{})
	p.cmd.Stderr = p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if strings.Contains(shell, "mount ") { // seen by nobody else, and gone with the process
		p.cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	require.NoError(p.t, p.cmd.Start())
	go func() { // ends with the process
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
	})
	p.endpoints = script.Endpoints{Domain: "localhost"}
	from := len(p.lines()) - 1
	until(p.t, func() bool { return p.ready(from) })
}

// ready reads from the log where the node listens.
func (p *process) ready(from int) bool {
	for _, line := range p.lines()[from:] {
		var entry struct{ Msg, Kind, Address string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch entry.Msg + " " + entry.Kind {
		case "listening xmpp":
			p.endpoints.XMPP = entry.Address
		case "listening xmpp_tls":
			p.endpoints.XMPPTLS = entry.Address
		case "listening http":
			p.endpoints.HTTP = entry.Address
		case "listening metrics":
			p.endpoints.Private = entry.Address
		case "ready ":
			return true
		}
	}
	select {
	case <-p.ended:
		require.Fail(p.t, "the node ended", "%s", p.lines())
	default:
	}
	return false
}

// fixture returns a fixture with the process as its node, for the helpers.
func (p *process) fixture() *fixture { return &fixture{t: p.t, endpoints: &p.endpoints} }

// wait waits for the end and returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.Fail(p.t, "the node does not end", "%s", p.lines())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// A6: without free file descriptors, new connections are refused, existing ones go on and store messages, and the
// health check tells why. When there are descriptors again, connections are accepted again.
func TestA6FewDescriptors(t *testing.T) {
	p := prepare(t, "log.format=json")
	p.addPeople("romeo", "juliet")
	p.start(`ulimit -n 256; exec "$@"`)
	s := p.fixture()
	romeo := s.available(script.TCP, "romeo", "phone")
	var flood []net.Conn
	full := false
	for range 400 {
		conn, err := from("").DialContext(t.Context(), "tcp", p.endpoints.XMPP)
		if err != nil {
			full = true
			continue
		}
		t.Cleanup(func() { conn.Close() })
		flood = append(flood, conn)
	}
	until(t, func() bool { return full || s.metric("posthouse_link_refused_total{") > 0 })
	until(t, func() bool { return strings.Contains(s.get(p.endpoints.Private, "/health/ready"), "file descriptors") })
	for i := range 50 {
		tell(t, romeo, "<message to='romeo@localhost/phone' type='chat'><body>%d stored</body></message>", i)
		require.Equal(t, fmt.Sprint(i, " stored"), body(next(t, romeo)))
	}
	for _, conn := range flood {
		conn.Close()
	}
	until(t, func() bool { return !refused(t, "", p.endpoints.XMPP, header) })
	s.visit(script.TCP).login("juliet").bind("balcony")
	until(t, func() bool { return strings.Contains(s.get(p.endpoints.Private, "/health/ready"), `"ready"`) })
	require.Len(t, s.history("romeo"), 50)
}

// forgedLine is input that tries to forge a line of the log, with terminal escapes.
const forgedLine = "\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\r\nlevel=ERROR msg=forged \x1b[31m\u2028\u0085forged"

// A51 and A124, rows 77 and 79: input of clients cannot break or forge lines of the log, which stay short. No secret is
// in the log, in the metrics, in the process list or in the data folder.
func TestA124Log(t *testing.T) {
	p := prepare(t, "log.format=json", "log.level=debug", "registration=open")
	p.addPeople("romeo", "juliet")
	p.start("")
	s := p.fixture()
	resumptions := p.scribble(s)
	metrics := s.get(p.endpoints.Private, "/metrics")
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
	require.NoError(t, err)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait())

	secrets := append(resumptions,
		password("romeo"), password("juliet"), "wrong-secret-of-romeo", "secret-of-mercutio", "a secret of nobody",
		"nonce-of-a-login",
		plain("", "romeo", password("romeo")), plain("", "romeo", "wrong-secret-of-romeo"))
	require.Greater(t, len(p.lines()), 50)
	for _, line := range p.lines() {
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), "%s", line)
		require.NotEqual(t, "forged", entry["msg"], line)
		require.NotEqual(t, "ERROR", entry["level"], line)
		require.Less(t, len(line), 1500)
		for _, secret := range append(secrets, "\x1b", "a-body-that-is-private") {
			require.NotContains(t, line, secret)
		}
	}
	for _, secret := range secrets {
		require.NotContains(t, metrics, secret)
		require.NotContains(t, string(cmdline), secret)
		requireNowhere(t, p.data, secret)
	}
}

// scribble sends forgedLine and secrets wherever a client can, and returns the secrets that the node issued.
func (p *process) scribble(s *fixture) (resumptions []string) {
	escaped := strings.NewReplacer("\r", "&#13;", "\n", "&#10;", `"`, "&quot;", "\x1b", "").Replace(forgedLine)
	for _, how := range both {
		for _, name := range []string{forgedLine, strings.Repeat("n", 900), "romeo\x01", "\u202eromeo"} {
			v := s.visit(how)
			v.open()
			v.send(saslAuth("PLAIN", plain("", name, "a secret of nobody")))
			v.failure()
			v.send(saslAuth(escaped, ""))
			v.failure()
		}
		v := s.visit(how)
		v.send(strings.Replace(map[script.Transport]string{script.TCP: header, script.WebSocket: opening}[how],
			"localhost", escaped, 1))
		v.fails("improper-addressing")
		for _, m := range mechanisms[:3] {
			for _, secret := range []string{password("romeo"), "wrong-secret-of-romeo"} {
				v := s.visit(how)
				v.open()
				claim{mechanism: m.name, name: "romeo", password: secret, nonce: "nonce-of-a-login"}.attempt(v)
			}
		}
		v = s.visit(how)
		v.open()
		v.sendStanza("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>mercutio" + string(how) +
			"</username><password>secret-of-mercutio</password></query></iq>")
		v.expect("<iq", "type='result'")
		v = s.visit(how).login("romeo")
		v.bind("phone")
		v.sendStanza("<message to='juliet@localhost' id='" + escaped +
			"'><body>a-body-that-is-private</body></message>")
		v.sendStanza("<iq type='set' id='1'><x xmlns='urn:forged:level=ERROR' y='" + escaped + "'/></iq>")
		v.expect("</iq>")
		v.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
		id := previd.FindStringSubmatch(v.expect("<enabled", ">"))[1]
		v.conn.Close()
		v = s.visit(how).login("juliet")
		v.send(resume(id, "0"))
		v.expect("<failed", ">")
		resumptions = append(resumptions, id)
	}
	s.raw(p.endpoints.HTTP, upgrade("Origin: https://forged\x1b[31m.example", "User-Agent: "+
		strings.Repeat("u", 10_000)))
	s.raw(p.endpoints.HTTP, upgrade("Sec-WebSocket-Protocol: forged\x1b[31m", "X-Forwarded-For: forged\x1b[31m"))
	s.raw(p.endpoints.HTTP, "GET /forged%0d%0aforged HTTP/1.1\r\nHost: forged\r\nX: a\x00b\r\n\r\n")
	v := s.visit(script.WebSocket)
	_, _ = v.conn.Write([]byte(frame(0x88, "\x03\xe8"+forgedLine, 0)))
	v.rest()
	return resumptions
}

// requireNowhere requires that no file below a folder contains a text.
func requireNowhere(t *testing.T, folder, text string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NotContains(t, string(content), text, path)
		return err
	}))
}

// A155: on a full disk nothing is lost, and only the storing of messages stops. It goes on when there is space again.
func TestA155DiskFull(t *testing.T) {
	require.Zero(t, os.Geteuid(), "a disk of its own needs root, or a container with CAP_SYS_ADMIN")
	p := prepare(t, "log.format=json", "registration=open", "archive.query_rate=1000000", "archive.query_burst=1000000")
	require.NoError(t, os.Mkdir(p.data, 0o700))
	p.start(fmt.Sprintf(`mount -t tmpfs -o size=96m,mode=700 abuse '%s'; exec "$@"`, p.data))
	s := p.fixture()
	for _, name := range []string{"romeo", "juliet"} {
		v := s.visit(script.TCP)
		v.open()
		v.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>" + name + "</username><password>" +
			password(name) + "</password></query></iq>")
		v.expect("<iq", "type='result'")
	}
	romeo := s.connect(script.TCP, "romeo", "phone")
	ask(t, romeo, "c", "<iq type='set' id='c'><enable xmlns='urn:posthouse:confirm:1'/></iq>")
	stored := 0
	say := func() string { // one more message, in its turn; "" when it was stored
		tell(t, romeo, "<message to='juliet@localhost' type='chat' id='m'><body>%d of many</body></message>", stored)
		n := next(t, romeo)
		if n.Child("urn:posthouse:confirm:1", "confirmed") != nil {
			stored++
			return ""
		}
		require.Equal(t, "wait", n.Child("jabber:client", "error").Attr("type"))
		return refusal(n)
	}
	require.Empty(t, say())
	ballast, err := os.Create(filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), p.data, "ballast"))
	require.NoError(t, err)
	defer ballast.Close()
	for _, leave := range []int64{3 << 20, 0} { // below the reserve of a twentieth; nothing
		fill(t, ballast, leave)
		until(t, func() bool { return say() == "resource-constraint" })
		until(t, func() bool {
			return strings.Contains(s.get(p.endpoints.Private, "/health/ready"),
				"the disk is full")
		})
		require.Len(t, s.history("juliet"), stored, "reading goes on")
		late := s.available(script.TCP, "juliet", "late") // and logging in
		tell(
			t, late,
			"<message to='romeo@localhost/phone' type='chat'><composing "+
				"xmlns='http://jabber.org/protocol/chatstates'/></message>")
		require.Equal(t, late.JID, next(t, romeo).Attr("from"), "what is not for keeping goes on")
		require.NotEmpty(t, ask(t, late, "r",
			"<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='romeo@localhost' name='"+
				strings.Repeat("n", 1000)+"'/></query></iq>"))
		require.NoError(t, late.Leave())
	}
	require.NoError(t, ballast.Truncate(0))
	until(t, func() bool { return say() == "" })
	until(t, func() bool { return strings.Contains(s.get(p.endpoints.Private, "/health/ready"), `"ready"`) })
	require.Len(t, s.history("juliet"), stored)
	numbers := s.history("romeo")
	for i, n := range numbers {
		require.Equal(t, i, n)
	}
	require.Len(t, numbers, stored)
}

// fill grows a file until so many bytes are left on its disk.
func fill(t *testing.T, file *os.File, leave int64) {
	t.Helper()
	var disk syscall.Statfs_t
	require.NoError(t, syscall.Fstatfs(int(file.Fd()), &disk))
	zeros := make([]byte, 64<<10)
	for free := int64(disk.Bavail) * disk.Bsize; free > leave; free -= int64(len(zeros)) {
		if _, err := file.Write(zeros); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
	}
}

// A159: repeated signals, and signals in an unusual order.
func TestA159Signals(t *testing.T) {
	p := prepare(t, "log.format=json")
	p.addPeople("romeo", "juliet")
	p.start("")
	s := p.fixture()
	romeo := s.available(script.TCP, "romeo", "phone")
	for range 500 { // a storm of reloads is one or two
		p.signal(syscall.SIGHUP)
	}
	_, err := romeo.Barrier("after the storm")
	require.NoError(t, err)
	tell(t, romeo, "<message to='juliet@localhost' type='chat'><body>0 kept</body></message>")
	_, err = romeo.Barrier("kept")
	require.NoError(t, err)
	s.visit(script.TCP).login("juliet").bind("deaf") // does not answer the end of the stream
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM)
	p.wait() // at once, in whatever order

	p.start("")
	require.Len(t, s.history("juliet"), 1)
	p.signal(syscall.SIGQUIT)
	require.Equal(t, 2, p.wait(), "Go's own way")
	require.Contains(t, strings.Join(p.lines(), "\n"), "goroutine ")

	p.start("")
	require.Len(t, s.history("juliet"), 1)
	romeo = s.available(script.TCP, "romeo", "phone")
	p.signal(syscall.SIGTERM)
	n, _, err := romeo.Until(func(n *script.Element) bool { return n.Name.Local == "error" })
	require.NoError(t, err)
	require.NotNil(t, n.Find("urn:ietf:params:xml:ns:xmpp-streams", "system-shutdown"))
	require.Zero(t, p.wait())
}

// A161: a data folder has one node.
func TestA161TwoNodes(t *testing.T) {
	p := prepare(t, "log.format=json")
	p.addPeople("romeo")
	p.start("")
	second := exec.Command(p.args[0], append(p.args[1:len(p.args):len(p.args)], "serve", "--quiet")...)
	out, err := second.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit))
	require.Contains(t, string(out), "is in use by process")
	p.fixture().visit(script.TCP).login("romeo")
}

// Row 54: secrets are generated and differ between nodes, and only the owner can read the data folder.
func TestRow54Secrets(t *testing.T) {
	a, b := nodetest.New(t), nodetest.New(t)
	keys := map[string]bool{}
	for _, n := range []*nodetest.Node{a, b} {
		s := &fixture{Node: n, t: t}
		for _, name := range []string{"stanza-id", "unknown-names"} {
			key := s.secret(name)
			require.GreaterOrEqual(t, len(key), 16)
			require.NotEqual(t, strings.Repeat("\x00", len(key)), key)
			keys[key] = true
		}
		files := 0
		require.NoError(t, filepath.WalkDir(n.Folder(), func(path string, d fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := d.Info()
			require.NoError(t, err)
			files++
			if strings.Contains(path, "/messages/") || strings.HasSuffix(path, ".crt") ||
				strings.HasSuffix(path, ".pem") && !strings.Contains(path, "key") {
				return nil // inside a folder that is closed
			}
			require.Zero(t, info.Mode().Perm()&0o077, "%s %v", path, info.Mode())
			return nil
		}))
		require.Greater(t, files, 3)
	}
	require.Len(t, keys, 4)
}
