package settings_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node/settings"
)

type listener struct {
	Address   []string       `yaml:"address" default:"127.0.0.1:5222"`
	ProxyFrom []netip.Prefix `yaml:"proxy_from"`
}

type archive struct {
	BatchSize int           `yaml:"batch_size" default:"512" min:"1" max:"4096"`
	MaxWait   time.Duration `yaml:"max_wait" default:"5ms" min:"0s" max:"1s"`
	Sync      bool          `yaml:"sync" default:"true"`
	Clock     func()        // not a setting
	Ignored   string        `yaml:"-"`
}

func (a *archive) Validate() error {
	if a.BatchSize == 13 {
		return errors.Join(
			&settings.Invalid{Path: "batch_size", What: "thirteen brings bad luck", Advice: "use 12"},
			errors.New("and the archive as a whole is unhappy"))
	}
	return nil
}

type root struct {
	Data    string `yaml:"data" default:"data"`
	Mode    string `yaml:"mode" default:"closed" enum:"closed,open"`
	Ratio   float64
	Listen  listeners           `yaml:"listen"`
	Hidden  archive             `yaml:"hidden" hide:"batch_size,sync"`
	Archive archive             `yaml:"archive"`
	Weight  float64             `yaml:"weight" min:"0.5" max:"10"`
	Small   uint8               `yaml:"small"`
	Key     string              `yaml:"key" secret:"file"`
	Contact map[string][]string `yaml:"contact"`
}

type listeners struct {
	XMPP listener `yaml:"xmpp"`
	HTTP listener `yaml:"http"`
}

func load(t *testing.T, src settings.Sources) (root, *settings.Loaded, settings.Problems) {
	t.Helper()
	var r root
	src.Prefix = "POSTHOUSE_"
	src.Reserved = append(src.Reserved, "POSTHOUSE_CONFIG")
	loaded, problems := settings.Load(&r, src)
	return r, loaded, problems
}

func file(text string) settings.Sources {
	return settings.Sources{File: "node.yaml", Content: []byte(text)}
}

func TestDefaults(t *testing.T) {
	r, loaded, problems := load(t, settings.Sources{})
	require.Empty(t, problems)
	require.Equal(t, "data", r.Data)
	require.Equal(t, []string{"127.0.0.1:5222"}, r.Listen.XMPP.Address)
	require.Equal(t, 5*time.Millisecond, r.Archive.MaxWait)
	require.True(t, r.Archive.Sync)
	require.Equal(t, "default", loaded.Origin("archive.sync").String())
}

func TestFile(t *testing.T) {
	r, loaded, problems := load(t, file(`# a comment
data: /srv/posthouse
listen:
  xmpp:
    address: ["0.0.0.0:5222", "[::]:5222"]
    proxy_from: 10.0.0.0/8
archive: {batch_size: 64, max_wait: 20ms, sync: false}
weight: 1.5
small: 255
`))
	require.Empty(t, problems)
	require.Equal(t, "/srv/posthouse", r.Data)
	require.Equal(t, []string{"0.0.0.0:5222", "[::]:5222"}, r.Listen.XMPP.Address)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, r.Listen.XMPP.ProxyFrom)
	require.Equal(t, 64, r.Archive.BatchSize)
	require.Equal(t, 20*time.Millisecond, r.Archive.MaxWait)
	require.False(t, r.Archive.Sync)
	require.InDelta(t, 1.5, r.Weight, 0)
	require.EqualValues(t, 255, r.Small)
	require.Equal(t, "node.yaml:2:7", loaded.Origin("data").String())
}

func TestEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "listen:\n", "listen:\n  xmpp:\n"} {
		r, _, problems := load(t, file(text))
		require.Empty(t, problems, "%q", text)
		require.Equal(t, "data", r.Data)
	}
}

// TestPrecedence sets one value in every place, and takes the places away one by one from the strongest.
func TestPrecedence(t *testing.T) {
	src := file("archive:\n  batch_size: 2\n")
	src.Environ = []string{"HOME=/root", "POSTHOUSE_ARCHIVE_BATCH_SIZE=3", "POSTHOUSE_CONFIG=node.yaml"}
	src.Flags = []settings.Assignment{
		{Flag: "--set", Path: "archive.batch_size", Value: "4"},
		{Flag: "--set", Path: "archive.batch_size", Value: "5"},
	}
	steps := []struct {
		weaken func()
		want   int
		origin string
	}{
		{func() {}, 5, "--set"},
		{func() { src.Flags = src.Flags[:1] }, 4, "--set"},
		{func() { src.Flags = nil }, 3, "POSTHOUSE_ARCHIVE_BATCH_SIZE"},
		{func() { src.Environ = nil }, 2, "node.yaml:2:15"},
		{func() { src.File, src.Content = "", nil }, 512, "default"},
	}
	for _, step := range steps {
		step.weaken()
		r, loaded, problems := load(t, src)
		require.Empty(t, problems)
		require.Equal(t, step.want, r.Archive.BatchSize)
		require.Equal(t, step.origin, loaded.Origin("archive.batch_size").String())
	}
}

func TestEnvironmentValues(t *testing.T) {
	r, _, problems := load(t, settings.Sources{Environ: []string{
		"POSTHOUSE_LISTEN_XMPP_ADDRESS=127.0.0.1:1, [::1]:2",
		"POSTHOUSE_LISTEN_HTTP_ADDRESS=",
		"POSTHOUSE_LISTEN_XMPP_PROXY_FROM=10.0.0.0/8",
		"POSTHOUSE_ARCHIVE_SYNC=false",
		"POSTHOUSE_DATA=/tmp/x=y",
		"OTHER_DATA=no",
	}})
	require.Empty(t, problems)
	require.Equal(t, []string{"127.0.0.1:1", "[::1]:2"}, r.Listen.XMPP.Address)
	require.Empty(t, r.Listen.HTTP.Address)
	require.False(t, r.Archive.Sync)
	require.Equal(t, "/tmp/x=y", r.Data)
}

// TestRefused is the table of what must not start a node: A160. Every message has its place and a remedy.
func TestRefused(t *testing.T) {
	env := func(entries ...string) settings.Sources { return settings.Sources{Environ: entries} }
	set := func(path, value string) settings.Sources {
		return settings.Sources{Flags: []settings.Assignment{{Flag: "--set", Path: path, Value: value}}}
	}
	tests := []struct {
		name   string
		src    settings.Sources
		at     string
		what   string
		remedy string
	}{
		{"unknown key at the top", file("data: x\ndatta: x\n"), "node.yaml:2:1", "datta: there is no such setting",
			"did you mean data?"},
		{"unknown key below", file("archive:\n  batchsize: 3\n"), "node.yaml:2:3",
			"archive.batchsize: there is no such", "did you mean batch_size?"},
		{"key of another group", file("batch_size: 3\n"), "node.yaml:1:1", "there is no such",
			"did you mean archive.batch_size?"},
		{"key that resembles nothing", file("listen:\n  gopher: x\n"), "node.yaml:2:3", "no such",
			"known in listen: xmpp, http"},
		{"text for a number", file("archive:\n  batch_size: many\n"), "node.yaml:2:15",
			"this is a text, where a whole number belongs", "from 1 to 4096"},
		{"quoted number", file("archive: {batch_size: \"64\"}\n"), "node.yaml:1:23", "this is a text",
			"without quotes"},
		{"number for a text", file("data: 5\n"), "node.yaml:1:7", "this is a number, where a text belongs",
			"in quotes"},
		{"bool for a text", file("data: true\n"), "node.yaml:1:7", "this is a true or false, where a text",
			"in quotes"},
		{"text for a bool", file("archive: {sync: yes}\n"), "node.yaml:1:17", "this is a text", "true or false"},
		{"fraction for a whole number", file("archive: {batch_size: 1.5}\n"), "node.yaml:1:23", "not a whole number",
			"from 1 to 4096"},
		{"too large for its type", file("small: 256\n"), "node.yaml:1:8", "out of range", "whole number"},
		{"negative", file("small: -1\n"), "node.yaml:1:8", "not a whole number", "whole number"},
		{"not a number", file("weight: .nan\n"), "node.yaml:1:9", "not a number", "number"},
		{"duration without a unit", file("archive: {max_wait: 30}\n"), "node.yaml:1:21", "where a duration belongs",
			"with its unit"},
		{"negative duration", file("archive: {max_wait: -3s}\n"), "node.yaml:1:21", "-3s is too small",
			"from 0s to 1s"},
		{"duration over its bound", file("archive: {max_wait: 2s}\n"), "node.yaml:1:21", "2s is too large",
			"from 0s to 1s"},
		{"fraction over its bound", file("weight: 10.5\n"), "node.yaml:1:9", "10.5 is too large", "0.5 to 10"},
		{"fraction under its bound", file("weight: 0.25\n"), "node.yaml:1:9", "0.25 is too small", "0.5 to 10"},
		{"number under its bound", file("archive: {batch_size: 0}\n"), "node.yaml:1:23", "0 is too small",
			"from 1 to 4096"},
		{"value outside the enum", file("mode: ajar\n"), "node.yaml:1:7", `"ajar" is not a value`, "closed, open"},
		{"bad prefix", file("listen: {xmpp: {proxy_from: [10.0.0.0/8, nowhere]}}\n"), "node.yaml:1:42",
			`"nowhere" cannot be used`, "list of prefix"},
		{"list for a value", file("data: [a, b]\n"), "node.yaml:1:7", "this is a list, not a text", "give a text"},
		{"group for a value", file("data:\n  x: y\n"), "node.yaml:2:", "this is a group, not a text", "give a text"},
		{"value for a group", file("archive: 5\n"), "node.yaml:1:10", "a group of settings, not a single value",
			"batch_size, max_wait, sync"},
		{"missing value", file("data:\nmode: open\n"), "node.yaml:1:", "the value is missing", "remove the line"},
		{"list at the top", file("- data\n"), "node.yaml:1:1", "must be a list of settings", "data, mode"},
		{"same key twice", file("data: a\nmode: open\ndata: b\n"), "node.yaml:3:1", "already defined", "keep one"},
		{"tab", file("archive:\n\tbatch_size: 5\n"), "node.yaml:2:", "not valid YAML", "spaces"},
		{"two documents", file("data: a\n---\ndata: b\n"), "node.yaml:3:", "more than one document", "keep one"},
		{"alias", file("data: &a x\nkey: *a\n"), "node.yaml:1:7", "not supported", "give a text"},
		{"merge key", file("archive:\n  <<: {sync: true}\n"), "node.yaml:2:3", "not a plain name", "not supported"},
		{"not text", settings.Sources{File: "node.yaml", Content: []byte{0xff, 0xfe, 0x00}}, "node.yaml", "not UTF-8",
			"UTF-8"},
		{"too large a file", file(strings.Repeat("#", 2<<20)), "node.yaml", "larger than 1 MiB", "check"},
		{"no such file", settings.Sources{File: "/no/such.yaml"}, "/no/such.yaml", "no such file or directory",
			"check the path"},
		{"rule of the struct", file("archive:\n  batch_size: 13\n"), "node.yaml:2:15", "archive.batch_size: thirteen",
			"use 12"},
		{"hidden setting", file("hidden: {batch_size: 5}\n"), "node.yaml:1:10", "no such setting",
			"archive.batch_size"},
		{"unknown variable", env("POSTHOUSE_DATTA=x"), "POSTHOUSE_DATTA", "no setting has this",
			"did you mean POSTHOUSE_DATA?"},
		{"strange variable", env("POSTHOUSE_ZZZZZZZZZZZZZZZZ=x"), "POSTHOUSE_ZZZZZZZZZZZZZZZZ", "no setting has this",
			"unset it"},
		{"bad variable", env("POSTHOUSE_SMALL=x"), "POSTHOUSE_SMALL",
			`small: "x" cannot be used: it is not a whole number`, "whole number"},
		{"NUL in a variable", env("POSTHOUSE_DATA=a\x00b"), "POSTHOUSE_DATA", "NUL", "text"},
		{"text for a map", file("contact: x\n"), "node.yaml:1:10", "not of the form {name: value}",
			"map of names to lists of text"},
		{"map in a map", file("contact: {a: {b: c}}\n"), "node.yaml:1:10", "the value of a: it is a group",
			"map of names"},
		{"bad map in a variable", env("POSTHOUSE_CONTACT=[a]"), "POSTHOUSE_CONTACT", "not of the form {name: value}",
			"map of names"},
		{"unknown flag path", set("archive.batch", "1"), "--set", "archive.batch: there is no such",
			"did you mean archive.batch_size?"},
		{"group as flag path", set("listen.xmpp", "1"), "--set", "no such setting", "such as listen.xmpp.address"},
		{"bad flag value", set("archive.sync", "1"), "--set", "neither true nor false", "true or false"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, problems := load(t, test.src)
			require.NotEmpty(t, problems)
			require.NotEmpty(t, problems[0].Remedy)
			require.Contains(t, problems[0].At.String(), test.at)
			text := problems[0].String()
			require.Contains(t, text, test.what)
			require.Contains(t, text, test.remedy)
			require.Error(t, problems.Err())
		})
	}
}

// TestAllProblemsAtOnce makes sure that nobody has to start a node five times to find five mistakes.
func TestAllProblemsAtOnce(t *testing.T) {
	src := file("datta: x\nmode: ajar\narchive:\n  batch_size: many\n  max_wait: 5\n")
	src.Environ = []string{"POSTHOUSE_NOPE=1"}
	src.Flags = []settings.Assignment{{Flag: "--set", Path: "nope", Value: "1"}}
	_, _, problems := load(t, src)
	require.Len(t, problems, 6)
	require.Equal(t, 1, problems[0].At.Line)
	require.Equal(t, 2, problems[1].At.Line)
	require.Equal(t, 4, problems[2].At.Line)
	require.Equal(t, 5, problems[3].At.Line)
	require.Contains(t, problems.Error(), "     4 |   batch_size: many\n       |               ^")
}

// TestSecretFiles: A160, a secret that others can read is refused.
func TestSecretFiles(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(key, []byte("secret"), 0o600))
	src := settings.Sources{Environ: []string{"POSTHOUSE_KEY=" + key}}
	for _, test := range []struct {
		mode os.FileMode
		what string
	}{{0o600, ""}, {0o400, ""}, {0o640, ""}, {0o644, "read by everyone"}, {0o660, "written by others"},
		{0o602, "written by others"}} {
		require.NoError(t, os.Chmod(key, test.mode))
		_, _, problems := load(t, src)
		if test.what == "" {
			require.Empty(t, problems, "%o", test.mode)
			continue
		}
		require.Len(t, problems, 1, "%o", test.mode)
		require.Contains(t, problems[0].String(), test.what)
		require.Contains(t, problems[0].Remedy, "chmod 600 "+key)
	}
	require.NoError(t, os.Remove(key))
	_, _, problems := load(t, src)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].What, "no such file")
}

// TestSecretValues: a secret is neither shown nor quoted, and its file must be private.
func TestSecretValues(t *testing.T) {
	type withSecret struct {
		Token string        `yaml:"token" secret:"value"`
		Wait  time.Duration `yaml:"wait"`
	}
	path := filepath.Join(t.TempDir(), "node.yaml")
	require.NoError(t, os.WriteFile(path, []byte("token: hunter2\n"), 0o644))
	var w withSecret
	_, problems := settings.Load(&w, settings.Sources{File: path})
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].What, "holds a secret and can be read by everyone")

	require.NoError(t, os.Chmod(path, 0o600))
	loaded, problems := settings.Load(&w, settings.Sources{File: path})
	require.Empty(t, problems)
	require.Equal(t, "hunter2", w.Token)
	require.Equal(t, "(hidden)", loaded.Settings()[0].Value)

	_, problems = settings.Load(&w, settings.Sources{File: "x", Content: []byte("wait: [hunter2\ntoken: [hunter2]\n")})
	require.NotEmpty(t, problems)
	require.NotContains(t, problems.Error(), "hunter2")
}

func TestMaps(t *testing.T) {
	want := map[string][]string{"abuse-addresses": {"mailto:a@example.org", "xmpp:a@example.org"}, "admin": {"b"}}
	r, loaded, problems := load(t,
		file("contact:\n  abuse-addresses: [\"mailto:a@example.org\", xmpp:a@example.org]\n  admin: b\n"))
	require.Empty(t, problems)
	require.Equal(t, want, r.Contact)
	text := loaded.Settings()[len(loaded.Settings())-1].Value
	r, _, problems = load(t, settings.Sources{Environ: []string{"POSTHOUSE_CONTACT=" + text}})
	require.Empty(t, problems)
	require.Equal(t, want, r.Contact, "what is shown can be given back: %s", text)
	r, _, problems = load(t, settings.Sources{Environ: []string{"POSTHOUSE_CONTACT="}})
	require.Empty(t, problems)
	require.Empty(t, r.Contact)
}

func TestBuiltInDefaults(t *testing.T) {
	_, loaded, _ := load(t, file("small: 0\n"))
	for _, s := range loaded.Settings() {
		switch s.Path {
		case "weight":
			require.Equal(t, settings.BuiltIn, s.Value)
		case "small":
			require.Equal(t, "0", s.Value)
			require.Equal(t, settings.BuiltIn, s.Default)
		case "archive.batch_size":
			require.Equal(t, "512", s.Value)
		}
	}
}

func TestSettingsListing(t *testing.T) {
	_, loaded, problems := load(t, file("archive: {batch_size: 7}\n"))
	require.Empty(t, problems)
	var paths []string
	for _, s := range loaded.Settings() {
		paths = append(paths, s.Path)
		if s.Path == "archive.batch_size" {
			require.Equal(t, "POSTHOUSE_ARCHIVE_BATCH_SIZE", s.Variable)
			require.Equal(t, "512", s.Default)
			require.Equal(t, "7", s.Value)
			require.Equal(t, "1", s.Min)
			require.Equal(t, "whole number", s.Type)
			require.Equal(t, "BatchSize", s.Field)
		}
	}
	require.Equal(t, []string{"data", "mode", "listen.xmpp.address", "listen.xmpp.proxy_from", "listen.http.address",
		"listen.http.proxy_from", "hidden.max_wait", "archive.batch_size", "archive.max_wait", "archive.sync", "weight",
		"small", "key", "contact"}, paths)
}

// TestUnfitStructs: structs that cannot be settings are a defect, not a user's mistake.
func TestUnfitStructs(t *testing.T) {
	for name, target := range map[string]any{
		"not a pointer": root{},
		"map of maps": &struct {
			M map[string]map[string]int `yaml:"m"`
		}{},
		"capitals": &struct {
			M int `yaml:"Max"`
		}{},
		"bad default": &struct {
			M int `yaml:"max" default:"many"`
		}{},
		"same variable": &struct {
			A struct {
				BC int `yaml:"b_c"`
			} `yaml:"a"`
			B struct {
				C int `yaml:"c"`
			} `yaml:"a_b"`
		}{},
	} {
		require.Panics(t, func() { settings.Load(target, settings.Sources{}) }, name)
	}
}

// FuzzConfig feeds arbitrary files: no panic, and every problem says where it is.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "data: x\n", "archive: {batch_size: 1, max_wait: 5ms}\n", "listen:\n  xmpp:\n    address: [a, b]\n",
		"data: |\n  x\n", "? a\n: b\n", "&a *a", "<<: *x", "!!int 5", "- - - -", "{a: {b: {c", "data: \"\\u0000\"\n",
		"%YAML 1.2\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var r root
		// An input that never ends would otherwise look like a fuzzer that finds nothing.
		stuck := time.AfterFunc(3*time.Second, func() { panic(fmt.Sprintf("stuck on %q", content)) })
		defer stuck.Stop()
		loaded, problems := settings.Load(&r,
			settings.Sources{File: "fuzz.yaml", Content: content, Prefix: "POSTHOUSE_"})
		for _, p := range problems {
			if p.At.Name != "fuzz.yaml" || p.What == "" || p.Remedy == "" {
				t.Fatalf("problem without place or remedy: %+v", p)
			}
		}
		if len(problems) == 0 {
			if r.Archive.BatchSize < 1 || r.Archive.BatchSize > 4096 || (r.Mode != "closed" && r.Mode != "open") {
				t.Fatalf("accepted values out of bounds: %+v", r)
			}
			loaded.Settings()
		}
	})
}
