package abuse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// A39, and row 1 of the advisories: with every mechanism, transport and form of the name, a client can log in only as
// itself.
func TestA39AuthzidMatrix(t *testing.T) {
	s := open(t, "auth.failures.known_per_user=-1")
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for _, m := range mechanisms {
			if m.binding != "" && !encrypted(how) {
				continue
			}
			for authzid, allowed := range map[string]bool{
				"":                        true,
				"romeo@localhost":         true,
				"Romeo@LOCALHOST":         true, // the same address
				"juliet@localhost":        false,
				"juliet":                  false,
				"romeo":                   false, // no address: RFC 6120 §6.3.8
				"romeo@localhost/phone":   false,
				"romeo@localhost/juliet":  false,
				"localhost":               false,
				"romeo@example.org":       false,
				"@localhost":              false,
				"romeo@localhost@x":       false,
				"bystander@localhost":     false,
				"romeo@localhost,n=julia": false,
				"ju\u00adliet@localhost":  false,
			} {
				for _, two := range []bool{false, true} {
					c := claim{two: two, mechanism: m.name, binding: m.binding, name: "romeo",
						password: password("romeo"), authzid: authzid}
					v := s.visit(how)
					v.open()
					condition, text := c.attempt(v)
					if !allowed {
						require.Equal(t, "invalid-authzid", condition, c)
						continue
					}
					require.Empty(t, condition, "%v: %s", c, text)
					if two {
						v.expect("features", "features>")
					} else {
						v.open()
					}
					require.Equal(t, "romeo@localhost/x", v.bind("x"), c)
				}
			}
		}
	})
}

// A36, A37, A38, A40, A52, and row 74: malformed logins, and logins with wrong credentials.
func TestA37LoginRefused(t *testing.T) {
	s := open(t)
	encode := base64.StdEncoding.EncodeToString
	v := map[script.Transport]*visitor{}
	for name, row := range map[string]struct{ sent, condition string }{
		"A36 not base64":     {saslAuth("PLAIN", "###"), "incorrect-encoding"},
		"A36 no padding":     {saslAuth("PLAIN", "AGFiYw"), "incorrect-encoding"},
		"A36 bits left over": {saslAuth("PLAIN", "AGFiYx=="), "incorrect-encoding"},
		"A36 white space":    {saslAuth("PLAIN", "AGFi\nYwBk"), "incorrect-encoding"},
		"A37 no NUL":         {saslAuth("PLAIN", encode([]byte("romeo"))), "malformed-request"},
		"A37 one NUL":        {saslAuth("PLAIN", encode([]byte("romeo\x00x"))), "malformed-request"},
		"A37 three NULs":     {saslAuth("PLAIN", encode([]byte("\x00romeo\x00a\x00b"))), "malformed-request"},
		"A37 nothing":        {saslAuth("PLAIN", "="), "malformed-request"},
		"A37 no name":        {saslAuth("PLAIN", plain("", "", "x")), "malformed-request"},
		"A37 long name": {saslAuth("PLAIN", plain("", strings.Repeat("a", 1025), "x")),
			"malformed-request"},
		"A37 long password": {saslAuth("PLAIN", plain("", "romeo", strings.Repeat("a", 1025))),
			"malformed-request"},
		"A37 invalid UTF-8": {saslAuth("PLAIN", plain("", "romeo", "\xff")), "malformed-request"},
		"A37 overlong NUL":  {saslAuth("PLAIN", plain("", "romeo\xc0\x80", "x")), "malformed-request"},
		"A38 unknown":       {saslAuth("CRAM-MD5", ""), "invalid-mechanism"},
		"A38 lower case":    {saslAuth("plain", plain("", "romeo", password("romeo"))), "invalid-mechanism"},
		"A38 none":          {saslAuth("", "="), "invalid-mechanism"},
		"A38 EXTERNAL":      {saslAuth("EXTERNAL", "="), "invalid-mechanism"},
		"A38 ANONYMOUS":     {saslAuth("ANONYMOUS", ""), "invalid-mechanism"},
		"A38 no channel": {saslAuth("SCRAM-SHA-256-PLUS",
			encode([]byte("p=tls-unique,,n=romeo,r=abcdefgh"))), "invalid-mechanism"},
		"A40 wrong password": {saslAuth("PLAIN", plain("", "romeo", "wrong")), "not-authorized"},
		"A40 unknown":        {saslAuth("PLAIN", plain("", "nobody", "wrong")), "not-authorized"},
		// RFC 4616 §2: at least one character
		"A52 empty password": {saslAuth("PLAIN", plain("", "romeo", "")), "malformed-request"},
		"A52 129 characters": {saslAuth("PLAIN", plain("", "romeo", strings.Repeat("a", 129))),
			"not-authorized"},
		"A52 emoji":                 {saslAuth("PLAIN", plain("", "romeo", "\U0001F339\U0001F339")), "not-authorized"},
		"A52 unassigned":            {saslAuth("PLAIN", plain("", "romeo", "\u0378")), "not-authorized"},
		"A52 control character":     {saslAuth("PLAIN", plain("", "romeo", "a\x07")), "not-authorized"},
		"A54 a name of two scripts": {saslAuth("PLAIN", plain("", "rom\u0435o", password("romeo"))), "not-authorized"},
		"A54 a name no address has": {saslAuth("PLAIN", plain("", "ro@meo/x", password("romeo"))), "not-authorized"},
		"A48 a pattern":             {saslAuth("PLAIN", plain("", "rome*", password("romeo"))), "not-authorized"},
		"A152 a quote":              {saslAuth("PLAIN", plain("", "romeo'--", password("romeo"))), "not-authorized"},
	} {
		for _, how := range both {
			v[how] = s.visit(how)
			v[how].open()
			v[how].send(row.sent)
			condition, _ := v[how].failure()
			require.Equal(t, row.condition, condition, "%s, %s", name, how)
		}
	}
	for _, how := range both { // A52: a megabyte is not even read
		huge := s.visit(how)
		huge.open()
		huge.send(saslAuth("PLAIN", plain("", "romeo", strings.Repeat("a", 1<<20))))
		tooBig(t, huge)
	}
	for _, name := range []string{"ROMEO", "\uff32omeo"} { // A54: one account, however it is written
		c := s.visit(script.TCP)
		c.open()
		condition, _ := claim{mechanism: "PLAIN", name: name, password: password("romeo")}.attempt(c)
		require.Empty(t, condition, name)
		c.open()
		require.Equal(t, "romeo@localhost/x", c.bind("x"))
	}
}

// A40: a name without an account cannot be told from one with an account: condition, text, salt and iterations look
// alike, and stay the same at every attempt.
func TestA40UnknownUser(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		for _, m := range mechanisms[:3] {
			try := func(name string) (salt, count, condition, text string) {
				v := s.visit(how)
				v.open()
				c := claim{mechanism: m.name, name: name, password: "wrong"}
				if m.name == "PLAIN" {
					condition, text = c.attempt(v)
					return
				}
				first, bare := c.first()
				v.send(saslAuth(c.mechanism, b64([]byte(first))))
				challenge, refused, _ := v.challenge()
				require.Empty(t, refused)
				v.send("<response xmlns='" + nsSASL + "'>" + b64([]byte(c.second(v, first, bare, challenge))) +
					"</response>")
				condition, text = v.outcome()
				fields := scram.Fields([]byte(challenge))
				return fields['s'], fields['i'], condition, text
			}
			salt, count, condition, text := try("romeo")
			require.Equal(t, "not-authorized", condition)
			for _, name := range []string{"nobody", "nobody", "somebody", "ro@meo"} {
				otherSalt, otherCount, otherCondition, otherText := try(name)
				require.Equal(t, []string{condition, text, count}, []string{otherCondition, otherText, otherCount})
				require.Len(t, otherSalt, len(salt))
				again, _, _, _ := try(name)
				require.Equal(t, otherSalt, again)
			}
		}
	})
}

// A41: that an account is disabled is told to its owner only.
func TestA41DisabledAccount(t *testing.T) {
	s := open(t)
	s.store(func(ctx context.Context, db *sqlite.Store) error { return db.SetDisabled(ctx, "romeo", true) })
	for _, m := range mechanisms[:3] {
		for secret, want := range map[string]string{password("romeo"): "account-disabled", "wrong": "not-authorized"} {
			v := s.visit(script.TCP)
			v.open()
			condition, _ := claim{mechanism: m.name, name: "romeo", password: secret}.attempt(v)
			require.Equal(t, want, condition, m.name)
		}
	}
}

// A42, row 38: every modification of a SCRAM message makes the login fail.
func TestA42SCRAMBent(t *testing.T) {
	s := open(t)
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for _, m := range mechanisms[1:] {
			if m.binding != "" && !encrypted(how) {
				continue
			}
			for about, bend := range map[string]func(*claim){
				"server's nonce changed": func(c *claim) { c.final = func(f string) string { return f + "x" } },
				"client's nonce alone": func(c *claim) {
					c.final = func(f string) string {
						return f[:strings.Index(f, ",r=")] +
							",r=fyko+d2lbbFgONRv9qkxdawL"
					}
				},
				"empty nonce":          func(c *claim) { c.nonce = " " },
				"mandatory extension":  func(c *claim) { c.reserved = "m=x," },
				"extension at the end": func(c *claim) { c.final = func(f string) string { return f + ",m=x" } },
				"no proof":             func(c *claim) { c.noProof = true },
				"empty proof":          func(c *claim) { c.proof = func([]byte) []byte { return nil } },
				"short proof":          func(c *claim) { c.proof = func(p []byte) []byte { return p[:len(p)-1] } },
				"long proof":           func(c *claim) { c.proof = func(p []byte) []byte { return append(p, 0) } },
				"zero proof": func(c *claim) {
					c.proof = func(p []byte) []byte {
						return make([]byte,
							len(p))
					}
				},
				"other flag afterwards": func(c *claim) { c.bindElsehow = "y,," },
				"other name afterwards": func(c *claim) { c.bindElsehow = "n,a=juliet@localhost," },
				"binding of nothing":    func(c *claim) { c.data = []byte("x") },
				"unknown binding":       func(c *claim) { c.flag = "p=tls-unique" },
				"wrong password":        func(c *claim) { c.password += "x" },
				"flag out of range":     func(c *claim) { c.flag = "z" },
			} {
				c := claim{mechanism: m.name, binding: m.binding, name: "romeo", password: password("romeo")}
				bend(&c)
				v := s.visit(how)
				v.open()
				condition, _ := c.attempt(v)
				require.Contains(t, []string{"not-authorized", "malformed-request"}, condition, "%s: %s", about, c)
			}
			v := s.visit(how)
			v.open()
			c := claim{mechanism: m.name, binding: m.binding, name: "romeo", password: password("romeo")}
			condition, _ := c.attempt(v)
			require.Empty(t, condition, c)
		}
		if encrypted(how) { // it could have bound, and believes that it could not: somebody took the offer out
			for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
				v := s.visit(how)
				v.open()
				condition, text := claim{mechanism: mechanism, name: "romeo", password: password("romeo"),
					flag: "y"}.attempt(v)
				require.Equal(t, "not-authorized", condition)
				require.Contains(t, text, "server-does-support-channel-binding")
			}
		}
	})
}

// A43: SCRAM protects the list of mechanisms and channel bindings against a man in the middle (XEP-0474).
func TestA43Downgrade(t *testing.T) {
	s := open(t)
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		v := s.visit(how)
		features := v.open()
		// not those of SASL2, which has a list of its own
		features = features[strings.Index(features, "<mechanisms"):strings.Index(features, "</mechanisms>")] +
			strings.Join(regexp.MustCompile(`<sasl-channel-binding.*</sasl-channel-binding>`).FindAllString(features,
				-1), "")
		list := func(pattern string) (all []string) {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(features, -1) {
				all = append(all, m[1])
			}
			slices.Sort(all)
			return all
		}
		text := strings.Join(list(`<mechanism>([^<]+)</mechanism>`), "\x1e")
		if bindings := list(`<channel-binding type='([^']+)'`); len(bindings) > 0 {
			text += "\x1f" + strings.Join(bindings, "\x1e")
		}
		require.Equal(t, encrypted(how), strings.Contains(text, "-PLUS"))
		first, _ := claim{mechanism: "SCRAM-SHA-256", name: "romeo"}.first()
		v.send(saslAuth("SCRAM-SHA-256", b64([]byte(first))))
		challenge, condition, _ := v.challenge()
		require.Empty(t, condition)
		sum := sha256.Sum256([]byte(text))
		require.Equal(t, b64(sum[:]), scram.Fields([]byte(challenge))['h'])
	})
}

// Row 42 of the advisories: a man in the middle with a valid certificate of his own cannot relay a login with channel
// binding.
func TestRow42Interception(t *testing.T) {
	s := open(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{otherCertificate(t)}})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() { // ends with the listener
		for {
			victim, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := tls.Dial("tcp", s.Endpoints().XMPPTLS, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				victim.Close()
				return
			}
			go func() { io.Copy(server, victim); server.Close() }()
			go func() { io.Copy(victim, server); victim.Close() }()
		}
	}()
	through := func(c claim) (condition, text string) {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer conn.Close()
		v := &visitor{t: t, conn: conn, in: conn}
		v.open()
		return c.attempt(v)
	}
	for _, m := range mechanisms[1:] {
		c := claim{mechanism: m.name, binding: m.binding, name: "romeo", password: password("romeo")}
		condition, text := through(c)
		if m.binding == "" {
			require.Empty(t, condition, "without binding nobody can tell")
			continue
		}
		require.Equal(t, "not-authorized", condition, c)
		require.Contains(t, text, "channel-bindings-dont-match", c)
	}
}

func otherCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A44: a stream ends after five failed logins.
func TestA44TooManyTries(t *testing.T) {
	s := open(t)
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for _, try := range []string{saslAuth("PLAIN", plain("", "romeo", "wrong")), saslAuth("X", ""),
			"<abort xmlns='" + nsSASL + "'/>"} {
			v := s.visit(how)
			v.open()
			for range 5 {
				v.send(try)
				v.failure()
			}
			v.send(try)
			require.NotContains(t, v.fails("policy-violation"), "<failure")
		}
	})
}

// A45: failed logins are limited by address and account, over all mechanisms and transports together. Others are not
// affected.
func TestA45Guessing(t *testing.T) {
	s := open(t, "auth.failures.per_user=5", "auth.failures.per_address=20")
	login := func(address string, how script.Transport, c claim) string {
		v := s.visitFrom(address, how)
		defer v.conn.Close()
		v.open()
		condition, _ := c.attempt(v)
		return condition
	}
	right := claim{mechanism: "PLAIN", name: "romeo", password: password("romeo")}
	require.Empty(t, login("127.0.0.7", script.TCP, right), "the owner's own address")
	for i := range 5 {
		m := mechanisms[i%3].name
		require.Equal(t, "not-authorized",
			login("127.0.0.6", everywhere[i%4], claim{mechanism: m, name: "romeo", password: "wrong"}))
	}
	for i := range 4 {
		c := right
		c.mechanism = mechanisms[i%3].name
		require.Equal(t, "temporary-auth-failure", login("127.0.0.6", everywhere[i], c), "even what is right")
	}
	require.Empty(t, login("127.0.0.7", script.TCP, right), "the owner is not locked out")
	require.Empty(t, login("127.0.0.8", script.TCP, right), "nor from elsewhere")
	require.Empty(t, login("127.0.0.6", script.TCP,
		claim{mechanism: "PLAIN", name: "juliet", password: password("juliet")}))

	// One attempt for each of many names counts for the address.
	for i := range 15 {
		login("127.0.0.6", script.TCP, claim{mechanism: "PLAIN", name: "name" + string(rune('a'+i)), password: "wrong"})
	}
	require.Equal(t, "temporary-auth-failure",
		login("127.0.0.6", script.TCP, claim{mechanism: "PLAIN", name: "bystander", password: password("bystander")}))
	require.Empty(t, login("127.0.0.7", script.TCP, right))

	// The stream that made the last allowed attempt ends.
	v := s.visitFrom("127.0.0.10", script.TCP)
	v.open()
	for range 5 {
		v.send(saslAuth("PLAIN", plain("", "romeo", "wrong")))
		v.failure()
	}
	v.fails("policy-violation")
}

// A46: expensive password checks run on as many goroutines as there are processors, and the queue for them is bounded.
func TestA46FloodOfPasswords(t *testing.T) {
	s := open(t, "auth.iterations=50000") // long enough for all to come before the first have their answer
	keys, err := auth.MakeCredentials(password("costly"), 50_000)
	require.NoError(t, err)
	s.store(func(ctx context.Context, db *sqlite.Store) error {
		_, err := db.CreateAccount(ctx, store.Account{Name: "costly", Credentials: keys})
		return err
	})
	var visitors []*visitor
	for range 200 {
		v := s.visit(script.TCP)
		v.open()
		visitors = append(visitors, v)
	}
	for i, v := range visitors {
		v.send(saslAuth("PLAIN", plain("", []string{"costly", "nobody"}[i%2], "wrong")))
	}
	_, err = s.bystander.Barrier("meanwhile")
	require.NoError(t, err)
	outcomes := map[string]int{}
	for _, v := range visitors {
		condition, _ := v.failure()
		outcomes[condition]++
	}
	require.Equal(t, len(visitors), outcomes["not-authorized"]+outcomes["temporary-auth-failure"], "%v", outcomes)
	require.Positive(t, outcomes["not-authorized"])
	require.Positive(t, outcomes["temporary-auth-failure"], "all were allowed to wait")
}

// Row 2 of the advisories: the stream after the login must have the same addresses as the one before.
func TestRow2Restart(t *testing.T) {
	s := open(t)
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for change, condition := range map[string]string{
			"to='example.org'":                         "host-unknown",
			"to='juliet@localhost'":                    "improper-addressing",
			"to='localhost' from='juliet@localhost'":   "invalid-from",
			"to='localhost' from='romeo@example.org'":  "invalid-from",
			"to='localhost' from='romeo@'":             "invalid-from",
			"to='localhost' from='juliet@localhost/x'": "invalid-from",
		} {
			v := s.visit(how)
			v.open()
			v.send(saslAuth("PLAIN", plain("", "romeo", password("romeo"))))
			v.expect("<success", ">")
			if v.framed {
				v.send(openElement("to='localhost'", change))
			} else {
				v.send(streamHeader("to='localhost'", change))
			}
			requireFails(t, v, condition, change)
		}
	})
}

// A53: open registration is limited for each address, and refuses names that can be confused with others.
func TestA53Registration(t *testing.T) {
	register := func(v *visitor, name string) string {
		v.sendStanza("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>" + name +
			"</username><password>" + password(name) + "</password></query></iq>")
		got := v.expect("<iq ", ">")
		if !strings.HasSuffix(got, "/>") {
			got += v.expect("</iq>")
		}
		return got
	}
	t.Run("names", func(t *testing.T) {
		s := open(t, "registration=open", "auth.failures.registrations=-1")
		for name, condition := range map[string]string{
			"romeo": "conflict", "ROMEO": "conflict", "admin": "not-acceptable", "postmaster": "not-acceptable",
			"adm\u0456n": "not-acceptable", "rom\u0435o": "not-acceptable", "a@b": "jid-malformed",
			"a b":         "jid-malformed",
			"\u200bromeo": "jid-malformed", "": "not-acceptable",
		} {
			v := s.visit(script.TCP)
			v.open()
			require.Contains(t, register(v, name), "<"+condition+" ", "%q", name)
		}
	})
	t.Run("number", func(t *testing.T) {
		s := open(t, "registration=open", "auth.failures.registrations=3")
		for i, how := range []script.Transport{script.TCP, script.WebSocket, script.DirectTLS, script.StartTLS,
			script.TCP} {
			v := s.visit(how)
			v.open()
			answer := register(v, "mercutio"+string(rune('a'+i)))
			require.Equal(t, i >= 3, strings.Contains(answer, "<resource-constraint "), answer)
		}
		v := s.visitFrom("127.0.0.9", script.TCP)
		v.open()
		require.Contains(t, register(v, "tybalt"), "type='result'")
	})
	t.Run("closed", func(t *testing.T) {
		s := open(t)
		v := s.visit(script.TCP)
		require.NotContains(t, v.open(), "register")
		v.sendStanza("<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>")
		v.fails("not-authorized")
	})
}

// A57, by the owner: a removed account's sessions end at once, and nobody can take its name or get its messages.
func TestA57RemovedAccount(t *testing.T) {
	s := open(t, "registration=open")
	juliet := s.available(script.TCP, "juliet", "balcony")
	romeo, other := s.available(script.TCP, "romeo", "phone"), s.connect(script.WebSocket, "romeo", "web")
	tell(t, other, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	enabled, _, err := other.Until(func(n *script.Element) bool { return n.Name.Local == "enabled" })
	require.NoError(t, err)
	require.Equal(t, "result", ask(t, romeo, "bye",
		"<iq type='set' id='bye'><query xmlns='jabber:iq:register'><remove/></query></iq>").Attr("type"))
	for _, a := range []*script.Client{romeo, other} {
		e, _, err := a.Until(func(n *script.Element) bool { return n.Name.Local == "error" })
		require.NoError(t, err)
		require.NotNil(t, e.Find("urn:ietf:params:xml:ns:xmpp-streams", "not-authorized"))
	}
	require.NotEmpty(t, enabled.Attr("id"))
	v := s.visit(script.TCP)
	v.open()
	condition, _ := claim{mechanism: "PLAIN", name: "romeo", password: password("romeo")}.attempt(v)
	require.Equal(t, "not-authorized", condition)
	v.sendStanza(
		"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>romeo</username><password>another good " +
			"one</password></query></iq>")
	v.expect("<conflict ", "</iq>")
	tell(t, juliet, "<message to='romeo@localhost' id='m'><body>x</body></message>")
	require.Equal(t, "service-unavailable", refusal(next(t, juliet)))
}
