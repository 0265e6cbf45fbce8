package script

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// System is what a script runs against.
type System interface {
	// Endpoints returns where the system listens now.
	Endpoints() Endpoints
	// AddUser makes an account.
	AddUser(name, password string) error
	// Restart stops the system in order and starts it again on the same data.
	Restart() error
}

// Script is a test as text, one step a line; indented lines below a step belong to it. A line that is indented by more
// than four blanks continues the one above: between them stands a blank, unless that one ends with ">".
//
//	# A comment, or the script's title.
//	settings: registration.open=true        of the node, as path=value
//	people: romeo juliet
//	romeo/orchard connects                  log in, bind, become available, and see the own presence come back
//	romeo/orchard connects quietly          log in and bind
//	romeo/orchard connects unbound          log in
//	romeo/orchard connects unknown          open a stream, over TLS when the transport has it
//	romeo/orchard' connects                 the same resource on a further connection
//	romeo/orchard sends:                    what is below, as it stands
//	juliet/balcony receives:                the next element received must match
//	juliet/balcony receives in any order:   the next elements, as many as are below
//	juliet/balcony receives nothing         nothing has come until all that it has sent is delivered
//	romeo/orchard leaves                    </stream:stream>
//	romeo/orchard is cut off                the socket is closed without a closing tag
//	romeo/orchard is disconnected           the server ends the stream
//	the node restarts
//
// In what is expected, {any} matches any text. Another {name} is bound where it first occurs and must be the same after
// that, also in what is sent. A child <etc/> allows more attributes and children than those shown.
type Script struct {
	Name string
	// Settings are what the node is to be configured with, as path=value.
	Settings []string
	lines    []step
}

type step struct {
	number int
	text   string
	body   string
}

// Parse reads a script.
func Parse(name, text string) (*Script, error) {
	s := &Script{Name: name}
	number := 0
	for line := range strings.Lines(text) {
		number++
		trimmed := strings.TrimRight(line, "\n")
		switch {
		case strings.TrimSpace(trimmed) == "" || strings.HasPrefix(trimmed, "#"):
		case strings.HasPrefix(trimmed, " ") || strings.HasPrefix(trimmed, "\t"):
			if len(s.lines) == 0 {
				return nil, fmt.Errorf("%s:%d: indented line without a step above it", name, number)
			}
			last := &s.lines[len(s.lines)-1]
			last.body = below(last.body, trimmed)
		case strings.HasPrefix(trimmed, "settings:"):
			s.Settings = append(s.Settings, strings.Fields(trimmed)[1:]...)
		default:
			s.lines = append(s.lines, step{number: number, text: trimmed})
		}
	}
	return s, nil
}

// below appends an indented line to the others of its step.
func below(body, line string) string {
	text := strings.TrimSpace(line) + "\n"
	if body == "" || !strings.HasPrefix(line, "     ") {
		return body + text
	}
	body = strings.TrimSuffix(body, "\n")
	if !strings.HasSuffix(body, ">") {
		body += " "
	}
	return body + text
}

// run is one run of a script.
type run struct {
	system  System
	how     Transport
	clients map[string]*Client
	bound   map[string]string
	pings   int
}

// Run runs the script with every client on the given transport. It stops at the first step that fails.
func (s *Script) Run(ctx context.Context, system System, how Transport) error {
	r := &run{system: system, how: how, clients: map[string]*Client{}, bound: map[string]string{}}
	defer func() {
		for _, c := range r.clients {
			c.Cut()
		}
	}()
	for _, d := range s.lines {
		if err := r.step(ctx, d); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", s.Name, d.number, d.text, err)
		}
	}
	return nil
}

func (r *run) step(ctx context.Context, d step) error {
	if people, ok := strings.CutPrefix(d.text, "people:"); ok {
		for _, name := range strings.Fields(people) {
			if err := r.system.AddUser(name, password(name)); err != nil {
				return err
			}
		}
		return nil
	}
	if d.text == "the node restarts" {
		return r.system.Restart()
	}
	who, verb, ok := strings.Cut(d.text, " ")
	if !ok {
		return errors.New("not a step")
	}
	if rest, ok := strings.CutPrefix(verb, "connects"); ok {
		return r.connect(ctx, who, strings.TrimSpace(rest))
	}
	client := r.clients[who]
	if client == nil {
		return fmt.Errorf("%s is not connected", who)
	}
	switch verb {
	case "sends:":
		return r.send(client, d.body)
	case "receives:", "receives in any order:":
		return r.receive(client, d.body, verb == "receives in any order:")
	case "receives nothing":
		return r.nothing(client)
	case "leaves":
		delete(r.clients, who)
		return client.Leave()
	case "is cut off":
		delete(r.clients, who)
		client.Cut()
		return nil
	case "is disconnected":
		delete(r.clients, who)
		n, err := client.Next()
		if err == nil {
			client.Cut()
			return fmt.Errorf("the stream should have ended, but came:\n%v", n)
		}
		client.Cut()
		return nil
	}
	return errors.New("not a step")
}

// password returns the password of an account: long enough for any policy, and different for each.
func password(name string) string { return "wherefore-art-thou-" + name }

func (r *run) connect(ctx context.Context, who, how string) error {
	name, resource, _ := strings.Cut(strings.TrimRight(who, "'"), "/")
	connect := Connect
	if how == "unknown" {
		connect = Open
	}
	c, err := connect(ctx, r.system.Endpoints(), r.how, name, password(name))
	if err != nil {
		return err
	}
	if old := r.clients[who]; old != nil {
		old.Cut()
	}
	r.clients[who] = c
	if how == "unbound" || how == "unknown" {
		return nil
	}
	if err := c.Bind(resource); err != nil {
		return err
	}
	switch how {
	case "quietly":
		return nil
	case "":
		if err := c.Write("<presence xmlns='jabber:client'/>"); err != nil {
			return err
		}
		n, err := c.Next()
		if err != nil {
			return err
		}
		if n.Name.Local != "presence" || n.Attr("from") != c.JID {
			return fmt.Errorf("own presence should have come back first, but came:\n%v", n)
		}
		return nil
	}
	return fmt.Errorf("connects how? %q", how)
}

// send fills placeholders in and sends, all at once where the transport is a stream of bytes, and element by element,
// each with its namespace, where it is one of messages.
func (r *run) send(c *Client, body string) error {
	for name, value := range r.bound {
		body = strings.ReplaceAll(body, "{"+name+"}", value)
	}
	if c.ws == nil || c.compact != nil {
		return c.Write(body)
	}
	d := xml.NewDecoder(strings.NewReader(body))
	for begin := int64(0); ; begin = d.InputOffset() {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("what is to be sent is not XML: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if err := d.Skip(); err != nil {
			return fmt.Errorf("what is to be sent is not XML: %w", err)
		}
		element := body[begin:d.InputOffset()]
		if start.Name.Space == "" {
			element = "<" + start.Name.Local + " xmlns='jabber:client'" +
				strings.TrimPrefix(element, "<"+start.Name.Local)
		}
		if err := c.Write(element); err != nil {
			return err
		}
	}
}

func (r *run) receive(c *Client, body string, anyOrder bool) error {
	wanted, err := parseAll(body)
	if err != nil {
		return fmt.Errorf("the expectation is not XML: %w", err)
	}
	for len(wanted) > 0 {
		got, err := c.Next()
		if err != nil {
			return err
		}
		var last error
		hit := -1
		for i, w := range wanted {
			trial := map[string]string{}
			for k, v := range r.bound {
				trial[k] = v
			}
			if last = match(w, got, trial); last == nil {
				r.bound, hit = trial, i
				break
			}
			if !anyOrder {
				break
			}
		}
		if hit < 0 {
			return fmt.Errorf("%w\nreceived:\n%v", last, got)
		}
		wanted = append(wanted[:hit:hit], wanted[hit+1:]...)
	}
	return nil
}

func (r *run) nothing(c *Client) error {
	r.pings++
	before, err := c.Barrier(fmt.Sprintf("script-ping-%d", r.pings))
	if err != nil {
		return err
	}
	if len(before) > 0 {
		return fmt.Errorf("came nevertheless:\n%v", before[0])
	}
	return nil
}
