package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// controlName is a socket in the data folder, by which commands ask the node that runs on it for what only a node can
// do. Whoever can open the folder can use it.
const controlName = "control"

// control answers commands.
type control struct {
	*assembly
	// freezing is held by the one backup that may be made at a time.
	freezing sync.Mutex
	stopping context.Context // ends when the node stops
}

// said is a line of an answer: how far it is, that the stores are frozen, or why they are not.
type said struct {
	Done   int64  `json:"done,omitempty"`
	All    int64  `json:"all,omitempty"`
	Frozen bool   `json:"frozen,omitempty"`
	Error  string `json:"error,omitempty"`
}

// controlPart serves the socket.
func (a *assembly) controlPart() Part {
	ctx, stop := context.WithCancel(context.Background())
	c := &control{assembly: a, stopping: ctx}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /freeze", c.freeze)
	server := NewHTTPServer(mux, a.Log)
	path := a.Folder.File(controlName)
	return Part{
		Name: "control",
		Start: func(_ context.Context, fail func(error)) error {
			l, err := listenPrivate(path)
			if err != nil {
				// A path can be too long for a socket. All else works.
				a.Log.Warn("there is no control socket: posthouse backup works only while the node is stopped",
					"path", path, "error", err)
				return nil
			}
			go serve(server, l, fail) // ends with stopServer
			return nil
		},
		Stop: func(ctx context.Context) error {
			stop()
			return stopServer(ctx, server)
		},
		Within: 5 * time.Second,
	}
}

// listenPrivate listens on a socket that only its owner can use, in place of what an earlier process has left.
func listenPrivate(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// freeze freezes the stores for as long as the request lasts.
func (c *control) freeze(w http.ResponseWriter, r *http.Request) {
	if !c.freezing.TryLock() {
		http.Error(w, "another backup is running", http.StatusConflict)
		return
	}
	defer c.freezing.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(c.stopping, cancel)()
	answer := http.NewResponseController(w)
	// A backup takes as long as it takes; it ends with the command, whose end closes the connection.
	if err := errors.Join(answer.SetWriteDeadline(time.Time{}), answer.SetReadDeadline(time.Time{})); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	lines := json.NewEncoder(w)
	say := func(s said) {
		_ = lines.Encode(s) // who has gone ends ctx
		_ = answer.Flush()
	}
	told := time.Now()
	into := c.Folder.File(frozen)
	err := os.RemoveAll(into) // of a node that was killed
	if err == nil {
		err = c.stores.freeze(ctx, into, func(done, all int64) {
			if now := time.Now(); now.Sub(told) > 100*time.Millisecond {
				told = now
				say(said{Done: done, All: all})
			}
		})
	}
	if err != nil {
		c.Log.Warn("a backup failed", "error", err)
		say(said{Error: err.Error()})
	} else {
		c.Log.Info("the stores are frozen for a backup")
		say(said{Frozen: true})
		<-ctx.Done()
	}
	if err := os.RemoveAll(into); err != nil {
		c.Log.Warn("cannot remove the frozen stores of a backup", "folder", into, "error", err)
	}
}

// askToFreeze asks the node that runs on a data folder to freeze its stores, which ends when thaw is called or this
// process ends.
func askToFreeze(ctx context.Context, data string, held *folderInUse,
	progress Progress) (thaw func() error, err error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(data, controlName))
		},
	}
	ctx, cancel := context.WithCancel(ctx)
	end := func() {
		cancel()
		transport.CloseIdleConnections()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/freeze", nil)
	if err != nil {
		end()
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		end()
		return nil, fmt.Errorf("%s uses the data folder %s and does not answer: is it starting or stopping? %w",
			held.holder, data, err)
	}
	thaw = func() error {
		end()
		return response.Body.Close()
	}
	if err := readAnswer(response, progress); err != nil {
		return nil, errors.Join(err, thaw())
	}
	return thaw, nil
}

func readAnswer(response *http.Response, progress Progress) error {
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("the node refuses: %s", text)
	}
	lines := json.NewDecoder(bufio.NewReader(response.Body))
	for {
		var s said
		if err := lines.Decode(&s); err != nil {
			return fmt.Errorf("the node has stopped during the backup: %w", err)
		}
		switch {
		case s.Error != "":
			return fmt.Errorf("the node cannot do it: %s", s.Error)
		case s.Frozen:
			return nil
		case progress != nil:
			progress(s.Done, s.All)
		}
	}
}
