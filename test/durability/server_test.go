package durability

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// patience bounds every wait for a process.
const patience = 60 * time.Second

// scaled returns how many rounds a test makes that usually makes so many: DURABILITY_FACTOR times as many, when that is
// set in the environment, as in `make nightly`.
func scaled(t *testing.T, rounds int) int {
	t.Helper()
	text := os.Getenv("DURABILITY_FACTOR")
	if text == "" {
		return rounds
	}
	factor, err := strconv.Atoi(text)
	require.NoError(t, err, "DURABILITY_FACTOR")
	require.Positive(t, factor, "DURABILITY_FACTOR")
	return rounds * factor
}

// binaries are the servers built so far, by build tags.
var binaries sync.Map

// binary builds the server once for each set of build tags.
func binary(t *testing.T, tags string) string {
	t.Helper()
	build, _ := binaries.LoadOrStore(tags, sync.OnceValues(func() (string, error) {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("posthouse-durability-%d-%s", os.Getpid(), tags))
		out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-tags", tags, "-o", path,
			"github.com/posthouse-im/posthouse/cmd/posthouse").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("building the server: %w\n%s", err, out)
		}
		return path, nil
	}))
	path, err := build.(func() (string, error))()
	require.NoError(t, err)
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	remove := func(_, build any) bool {
		if path, err := build.(func() (string, error))(); err == nil {
			os.Remove(path)
		}
		return true
	}
	binaries.Range(remove)
	disks.Range(remove)
	os.Exit(code)
}

// server is a data folder and how to run a node on it.
type server struct {
	bin, data, config string
	// inside is what a command is run under, to be where the data folder can be seen; nil for everywhere.
	inside    []string
	endpoints script.Endpoints
}

// newServer writes a configuration for a node on free ports with its data in that folder.
func newServer(t *testing.T, data, durability string) *server {
	t.Helper()
	port := freePort(t)
	s := &server{bin: binary(t, ""), data: data, config: filepath.Join(t.TempDir(), "node.yaml")}
	s.endpoints = script.Endpoints{XMPP: port, Domain: "localhost"}
	require.NoError(t, os.WriteFile(s.config, []byte(strings.Join([]string{
		"data: " + data,
		"durability: " + durability,
		"listen:",
		"  xmpp: {address: [\"" + port + "\"]}",
		"  xmpp_tls: {address: []}",
		"  compact: {address: []}",
		"  http: {address: []}",
		"  metrics: {address: []}",
		"auth: {plain_without_tls: true, iterations: 4096}",
		"c2s: {rate_bytes: -1, rate_stanzas: -1, drain_time: 500ms}",
		"messages: {memtable_bytes: 1048576}", // so that tables are written, too
		"archive: {query_rate: 1000000000, query_burst: 1000000000}",
		"log: {format: json}",
	}, "\n")), 0o600))
	return s
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// command is a command of the server. It ends with this process, whatever ends that.
func (s *server) command(wrapper []string, args ...string) *exec.Cmd {
	var all []string
	all = append(all, s.inside...)
	all = append(all, wrapper...)
	all = append(append(all, s.bin), args...)
	c := exec.Command(all[0], all[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// addUsers makes the accounts p0, p1, …
func (s *server) addUsers(t *testing.T, n int) {
	t.Helper()
	var csv strings.Builder
	csv.WriteString("name,password\n")
	for i := range n {
		fmt.Fprintf(&csv, "%s,%s\n", user(i), password)
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	require.NoError(t, os.WriteFile(file, []byte(csv.String()), 0o600))
	out, err := s.command(nil, "user", "import", "--config", s.config, file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

const password = "by-any-other-word"

func user(i int) string { return fmt.Sprintf("p%d", i) }

// process is a running node.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it says that it is ready
	ended chan struct{} // closed when it has ended
	err   error         // how; valid when ended is closed
	log   *tail
}

// start runs the node, under another program when wrapper is given, and waits until it is ready or has ended.
func (s *server) start(t *testing.T, wrapper ...string) *process {
	t.Helper()
	p := &process{cmd: s.command(wrapper, "serve", "--config", s.config), ready: make(chan struct{}),
		ended: make(chan struct{}), log: &tail{}}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stderr, p.cmd.Stdout = write, nil
	require.NoError(t, p.cmd.Start())
	write.Close()
	go p.watch(read)
	t.Cleanup(func() { p.kill(); <-p.ended })
	select {
	case <-p.ready:
	case <-p.ended:
	case <-time.After(patience):
		require.Fail(t, "the node is not ready", "%s", p.log)
	}
	return p
}

// startWell is start for a node that has to get ready: whatever the last one's end left behind, the next one comes up.
func (s *server) startWell(t *testing.T) *process {
	t.Helper()
	p := s.start(t)
	select {
	case <-p.ready:
	default:
		require.Fail(t, "the node does not start again", "%s", p.log)
	}
	return p
}

// watch reads the log until the process and all its children have ended.
func (p *process) watch(log *os.File) {
	lines := bufio.NewReader(io.TeeReader(log, p.log))
	once := sync.Once{}
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, `"msg":"ready"`) {
			once.Do(func() { close(p.ready) })
		}
		if err != nil {
			break
		}
	}
	log.Close()
	p.err = p.cmd.Wait()
	close(p.ended)
}

// kill ends the node, and what it runs under, at once.
func (p *process) kill() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// wait waits for the end and returns the exit code, -1 after a signal.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.Fail(t, "the node does not end", "%s", p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// killed waits for the end of a node that was killed, and makes sure that nothing else ended it.
func (p *process) killed(t *testing.T) {
	t.Helper()
	require.Equal(t, -1, p.wait(t), "it should have been killed: %s", p.log)
}

// tail keeps the last part of a log for a failure's message.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 16<<10 {
		l.text = l.text[len(l.text)-8<<10:]
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// connect logs a person in, without presence.
func (s *server) connect(ctx context.Context, i int) (*script.Client, error) {
	a, err := script.Connect(ctx, s.endpoints, script.TCP, user(i), password)
	if err != nil {
		return nil, err
	}
	if err := a.Bind("d"); err != nil {
		a.Cut()
		return nil, err
	}
	return a, nil
}
