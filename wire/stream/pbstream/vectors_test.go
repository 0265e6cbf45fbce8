package pbstream

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// exchange is something that client and server say to each other, as vectors.json publishes it.
type exchange struct {
	Name string `json:"name"`
	// Given are the texts from which whoever repeats the exchange computes what is said.
	Given map[string]string `json:"given,omitempty"`
	Steps []step            `json:"steps"`
}

// step is one frame.
type step struct {
	From string `json:"from"`
	Says string `json:"says"`
	// XML is what it stands for; absent for a ping and a pong.
	XML pieces `json:"xml,omitempty"`
	// Hex is the frame with its length.
	Hex pieces `json:"hex"`
}

// pieces is a text that is published as a list of pieces, so that no line is too long.
type pieces string

// mostPiece is the length of a piece; that of hexadecimal is whole bytes.
const mostPiece = 100

// MarshalJSON implements json.Marshaler. XML is cut between tags where that is possible.
func (p pieces) MarshalJSON() ([]byte, error) {
	list := []string{}
	for rest := string(p); rest != ""; {
		n := len(rest)
		if n > mostPiece {
			if n = strings.LastIndex(rest[:mostPiece], "><") + 1; n == 0 {
				n = mostPiece
			}
		}
		list = append(list, rest[:n])
		rest = rest[n:]
	}
	var all bytes.Buffer
	e := json.NewEncoder(&all)
	e.SetEscapeHTML(false)
	err := e.Encode(list)
	return all.Bytes(), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *pieces) UnmarshalJSON(in []byte) error {
	var list []string
	err := json.Unmarshal(in, &list)
	*p = pieces(strings.Join(list, ""))
	return err
}

// Who says it.
const (
	client = "client"
	server = "server"
)

// Names of steps whose XML is not that of a stanza or an element.
const (
	sayOpen  = "stream header"
	sayPing  = "ping"
	sayPong  = "pong"
	sayClose = "end of the stream"
	sayError = "stream error"
)

const (
	userAgent = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	romeo     = "romeo@example.org"
	atDesk    = "romeo@example.org/App~JBSWY3DPEHPK3PXP"
)

// headers are the stream headers of the exchanges.
var headers = map[string]stream.Header{
	client: {From: romeo, To: "example.org", HasTo: true, Version: "1.0", HasVersion: true},
	server: {
		From: "example.org", To: romeo, HasTo: true, ID: "q0ZbHkq1SyCoV7Xb3mJ6tw", Version: "1.0", HasVersion: true,
		Lang: "en",
	},
}

func openXML(from string) string {
	if from == client {
		return "<stream:stream from='romeo@example.org' to='example.org' version='1.0'>"
	}
	return "<stream:stream from='example.org' to='romeo@example.org' id='q0ZbHkq1SyCoV7Xb3mJ6tw' version='1.0' " +
		"xml:lang='en'>"
}

// says makes a step of XML.
func says(from, what, xml string) step { return step{From: from, Says: what, XML: pieces(xml)} }

func opens(from string) step { return says(from, sayOpen, openXML(from)) }

// errs makes the step of a stream error.
func errs(condition, more string) []step {
	return []step{
		says(server, sayError, "<stream:error><"+condition+" xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"+more+
			"</stream:error>"),
		says(server, sayClose, "</stream:stream>"),
	}
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func hmac256(key, text string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return string(m.Sum(nil))
}

// The login of RFC 7677 §3, with another name.
const (
	scramSalt        = "W22ZaJ0SNY7soEsUEjb6gQ=="
	scramPassword    = "pencil"
	scramClientNonce = "rOprNGfwEbeRWgbNEkqO"
	scramNonce       = scramClientNonce + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	fastToken        = "HIr2gLYO9sXzC4mPl4ZkqFJ6vWgX3nQ1fD0uRbT5eYs"
	nextToken        = "p3Jc0n2m4QyqfR1sT7uVw9xYzAbCdEfGhIjKlMnOpQr"
	streamID         = "5W7Nq1k8Q2yEj6b0Yw3xTg"
)

// scram returns the four messages of SCRAM-SHA-256 (RFC 5802 §5).
func scram(t testing.TB) (first, challenge, response, final string) {
	bare := "n=romeo,r=" + scramClientNonce
	challenge = "r=" + scramNonce + ",s=" + scramSalt + ",i=4096"
	withoutProof := "c=biws,r=" + scramNonce
	salt, err := base64.StdEncoding.DecodeString(scramSalt)
	require.NoError(t, err)
	salted, err := pbkdf2.Key(sha256.New, scramPassword, salt, 4096, 32)
	require.NoError(t, err)
	message := bare + "," + challenge + "," + withoutProof
	key := hmac256(string(salted), "Client Key")
	stored := sha256.Sum256([]byte(key))
	proof := []byte(hmac256(string(stored[:]), message))
	for i := range proof {
		proof[i] ^= key[i]
	}
	return "n,," + bare, challenge, withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof),
		"v=" + b64(hmac256(hmac256(string(salted), "Server Key"), message))
}

const (
	firstFeatures = "<features xmlns='http://etherx.jabber.org/streams'><mechanisms " +
		"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" +
		"<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms>" +
		"<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-256</mechanism><mechanism>" +
		"SCRAM-SHA-1</mechanism><inline>" +
		"<bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:sm:3'/><feature var='urn:xmpp:carbons:2'/>" +
		"<feature var='urn:posthouse:confirm:1'/></inline></bind>" +
		"<sm xmlns='urn:xmpp:sm:3'/><fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast>" +
		"</inline></authentication>" +
		"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits></features>"
	askSession = "<bind xmlns='urn:xmpp:bind:0'><tag>App</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/>" +
		"<enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:posthouse:confirm:1'/></bind>"
	authenticated = "<authorization-identifier>" + atDesk + "</authorization-identifier>"
	bound         = "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='" + streamID +
		"' resume='true' max='300'/></bound>"
	refusedXML = "<failure xmlns='urn:xmpp:sasl:2'><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
)

// authenticate is the element that logs in.
func authenticate(mechanism, first, more string) string {
	return "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + mechanism + "'><initial-response>" + b64(first) +
		"</initial-response>" +
		"<user-agent id='" + userAgent + "'/>" + more + "</authenticate>"
}

// success is the answer to it.
func success(data, more string) string {
	return "<success xmlns='urn:xmpp:sasl:2'><additional-data>" + b64(data) + "</additional-data>" + authenticated +
		more + "</success>"
}

func token(text string) string {
	return "<token xmlns='urn:xmpp:fast:0' expiry='2026-12-22T08:00:00Z' token='" + text + "'/>"
}

// exchanges are what vectors.json publishes. Their bytes do not change while the schema does not.
func exchanges(t testing.TB) []exchange {
	list := logins(t)
	list = append(list, talk...)
	for i := range list {
		for j := range list[i].Steps {
			s := &list[i].Steps[j]
			s.Hex = hexOf(t, s)
		}
	}
	return list
}

func logins(t testing.TB) []exchange {
	first, challenge, response, final := scram(t)
	byToken := "romeo\x00" + hmac256(fastToken, "Initiator")
	proof := hmac256(fastToken, "Responder")
	given := map[string]string{"token": fastToken, "mechanism": "HT-SHA-256-NONE", "username": "romeo"}
	resume := "<resume xmlns='urn:xmpp:sm:3' previd='" + streamID + "' h='42'/>"
	return []exchange{
		{"first login, with SCRAM-SHA-256 and a token request", map[string]string{
			"username": "romeo", "password": scramPassword, "client_nonce": scramClientNonce, "token": fastToken,
		}, []step{
			opens(client), opens(server), says(server, "first features", firstFeatures),
			says(client, "login", authenticate("SCRAM-SHA-256", first, askSession+
				"<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>")),
			says(server, "challenge", "<challenge xmlns='urn:xmpp:sasl:2'>"+b64(challenge)+"</challenge>"),
			says(client, "response", "<response xmlns='urn:xmpp:sasl:2'>"+b64(response)+"</response>"),
			says(server, "success", success(final, bound+token(fastToken))),
			says(server, "features of the session", boundFeatures),
		}},
		{"login with a token, in one flight", given, []step{
			opens(client), says(client, "login",
				authenticate("HT-SHA-256-NONE", byToken, askSession+"<fast xmlns='urn:xmpp:fast:0'/>")),
			opens(server), says(server, "success, with the token that takes the place of the old one",
				success(proof, bound+token(nextToken))),
			says(server, "features of the session", boundFeatures),
		}},
		{"login that resumes a stream, in one flight", given, []step{
			opens(client), says(client, "login",
				authenticate("HT-SHA-256-NONE", byToken, "<fast xmlns='urn:xmpp:fast:0'/>"+resume+askSession)),
			opens(server), says(server, "success",
				success(proof, "<resumed xmlns='urn:xmpp:sm:3' previd='"+streamID+"' h='41'/>")),
			says(server, "features of the session", boundFeatures),
		}},
		{"login whose stream cannot be resumed, in one flight", given, []step{
			opens(client), says(client, "login",
				authenticate("HT-SHA-256-NONE", byToken, "<fast xmlns='urn:xmpp:fast:0'/>"+resume+askSession)),
			opens(server),
			says(server, "success, with a new stream",
				success(
					proof,
					"<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"+
						"</failed>"+bound)),
			says(server, "features of the session", boundFeatures),
		}},
		{"login with a token that is refused",
			map[string]string{"token": nextToken, "mechanism": "HT-SHA-256-NONE", "username": "romeo"}, []step{
				opens(client),
				says(client, "login", authenticate("HT-SHA-256-NONE", "romeo\x00"+hmac256(nextToken, "Initiator"),
					askSession+"<fast xmlns='urn:xmpp:fast:0'/>")),
				opens(server), says(server, "first features, which come after all", firstFeatures),
				says(server, "refusal", refusedXML),
			}},
	}
}

// fromSelf are the addresses of what the server says in the name of the account.
const fromSelf = " from='" + romeo + "' to='" + atDesk + "'"

const archived = "<message xmlns='jabber:client' from='juliet@example.org/balcony' to='romeo@example.org' " +
	"type='chat' id='m7'><body>Wherefore?</body>" +
	"<stanza-id xmlns='urn:xmpp:sid:0' id='AAECAwQFBgcICQoLDA0ODw' by='romeo@example.org'/><position " +
	"xmlns='urn:posthouse:position:1' number='43'/></message>"

// result is a message of the archive.
const result = "<message" + fromSelf +
	"><result xmlns='urn:xmpp:mam:2' queryid='q1' id='AAECAwQFBgcICQoLDA0ODw'><forwarded xmlns='urn:xmpp:forward:0'>" +
	"<delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00.123Z'/>" + archived + "</forwarded></result></message>"

var talk = []exchange{
	{Name: "message and acknowledgement", Steps: []step{
		says(client, "message", "<message to='juliet@example.org' type='chat' id='"+uuid+
			"'><body>Hello</body><origin-id xmlns='urn:xmpp:sid:0' id='"+uuid+"'/></message>"),
		says(client, "request for an acknowledgement", "<r xmlns='urn:xmpp:sm:3'/>"),
		says(server, "confirmation", "<message"+fromSelf+
			" type='headline'><confirmed xmlns='urn:posthouse:confirm:1' id='"+uuid+
			"' stanza-id='q0ZbHkq1SyCoV7Xb3mJ6tw' conversation='juliet@example.org' number='42' "+
			"stamp='2026-10-21T08:00:00.123Z'/></message>"),
		says(server, "acknowledgement", "<a xmlns='urn:xmpp:sm:3' h='300'/>"),
	}},
	{Name: "message of most clients, as it is delivered", Steps: []step{
		says(server, "message", strings.Replace(numberedMessage, text60, "Hello", 1)),
	}},
	{Name: "message that waited", Steps: []step{
		says(
			server, "message",
			"<message from='romeo@example.org/phone' to='juliet@example.org' type='chat' id='m1'><body>Hello</body>"+
				stanzaIDPayload+
				"<position xmlns='urn:posthouse:position:1' number='42'/><delay xmlns='urn:xmpp:delay' "+
				"from='example.org' stamp='2026-10-21T08:00:00.123Z'/></message>"),
	}},
	{Name: "markers", Steps: []step{
		says(client, "delivered up to 42",
			"<message to='juliet@example.org' type='chat'><delivered xmlns='urn:posthouse:marker:1' "+
				"number='42'/></message>"),
		says(
			client, "read up to 42",
			"<message to='juliet@example.org' type='chat'><read xmlns='urn:posthouse:marker:1' "+
				"number='42'/></message>"),
		says(client, "read, a message without a number",
			"<message to='juliet@elsewhere.example' type='chat'><read xmlns='urn:posthouse:marker:1' "+
				"id='m7'/></message>"),
		says(server, "XEP-0333, in the generic form",
			"<message from='juliet@elsewhere.example/x' to='romeo@example.org' type='chat'><displayed "+
				"xmlns='urn:xmpp:chat-markers:0' id='m7'/></message>"),
	}},
	{Name: "typing", Steps: []step{
		says(client, "typing", composingMessage),
		says(client, "typing has stopped",
			"<message to='juliet@example.org' type='chat'><paused xmlns='http://jabber.org/protocol/chatstates'/>"+
				"<no-store xmlns='urn:xmpp:hints'/></message>"),
	}},
	{Name: "presence", Steps: []step{
		says(client, "available", "<presence/>"),
		says(
			client, "away",
			"<presence><show>away</show><status>At lunch</status><priority>-5</priority><c "+
				"xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org/client' "+
				"ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>"),
		says(
			server, "of a contact",
			"<presence from='juliet@example.org/balcony' to='romeo@example.org'><show>dnd</show></presence>"),
		says(client, "subscription", "<presence to='juliet@example.org' type='subscribe'/>"),
		says(client, "unavailable", "<presence type='unavailable'/>"),
	}},
	{Name: "roster", Steps: []step{
		says(client, "question", "<iq type='get' id='r1'><query xmlns='jabber:iq:roster'/></iq>"),
		says(server, "answer", "<iq type='result' id='r1' to='"+atDesk+"'><query xmlns='jabber:iq:roster' ver='ver14'>"+
			"<item jid='juliet@example.org' name='Juliet' subscription='both'><group>Friends</group></item><item "+
			"jid='nurse@example.org' subscription='none' ask='subscribe'/></query></iq>"),
		says(server, "push", rosterPush),
	}},
	{Name: "carbon", Steps: []step{
		says(server, "of what another device sent", strings.Replace(carbonMessage, text60, "Hello", 1)),
	}},
	{Name: "history", Steps: []step{
		says(
			client, "question",
			"<iq type='set' id='h1'><query xmlns='urn:xmpp:mam:2' queryid='q1'><x xmlns='jabber:x:data' type='submit'>"+
				"<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field><field "+
				"var='with'><value>juliet@example.org</value></field></x>"+
				"<set xmlns='http://jabber.org/protocol/rsm'><max>50</max><before/></set></query></iq>"),
		says(server, "result", result),
		says(server, "end", "<iq type='result' id='h1'"+fromSelf+
			"><fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='http://jabber.org/protocol/rsm'>"+
			"<first>AAECAwQFBgcICQoLDA0ODw</first><last>AAECAwQFBgcICQoLDA0ODw</last></set></fin></iq>"),
	}},
	{Name: "sync", Steps: []step{
		says(
			client, "question",
			"<iq type='get' id='s1'><sync xmlns='urn:posthouse:sync:1' cursor='c41' max='50'/></iq>"),
		says(server, "answer", "<iq type='result' id='s1' to='a@b/c'>"+syncResult+"</iq>"),
		says(server, "refusal", "<iq type='error' id='s1'"+fromSelf+
			"><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"+
			"<start-over xmlns='urn:posthouse:sync:1'/></error></iq>"),
	}},
	{Name: "what goes in the generic form", Steps: []step{
		says(
			client, "correction",
			"<message to='juliet@example.org' type='chat' id='m2'><body>Hello!</body><replace "+
				"xmlns='urn:xmpp:message-correct:0' id='m1'/></message>"),
		says(
			client, "retraction",
			"<message to='juliet@example.org' type='chat' id='m4'><retract xmlns='urn:xmpp:message-retract:1' "+
				"id='m1'/></message>"),
		says(client, "reply that mentions somebody",
			"<message to='romeo@example.org' type='chat' id='m5'><body>&gt; Hello&#10;Hi Romeo</body><reply "+
				"xmlns='urn:xmpp:reply:0' to='romeo@example.org/phone' id='m1'/>"+
				"<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='8'/></fallback>"+
				"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='11' end='16' "+
				"uri='xmpp:romeo@example.org'/></message>"),
		says(
			client, "reactions",
			"<message to='romeo@example.org' type='chat' id='m6'><reactions xmlns='urn:xmpp:reactions:0' "+
				"id='m1'><reaction>👍</reaction></reactions></message>"),
		says(client, "mixed content", "<message><x xmlns='urn:example:x' a='1' xml:lang='en'>one<b/>two</x></message>"),
	}},
	{Name: "forwarded message", Steps: []step{
		says(
			client, "message",
			"<message to='juliet@example.org' type='chat' id='m3'><body>Look</body><forwarded "+
				"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='nurse@example.org' "+
				"type='chat'><body>Hi</body></message></forwarded></message>"),
	}},
	{Name: "keep-alive", Steps: []step{
		{From: client, Says: sayPing}, {From: server, Says: sayPong},
		says(client, "agreement", "<keepalive xmlns='urn:posthouse:stream:1' seconds='60'/>"),
		says(server, "agreement", "<keepalive xmlns='urn:posthouse:stream:1' seconds='60'/>"),
	}},
	{Name: "stanzas that are refused", Steps: []step{
		says(server, "nobody is there",
			"<iq from='example.org' type='error' id='q1'><error type='cancel'><item-not-found "+
				"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"),
		says(server, "too many, with a text", "<message from='juliet@example.org' to='"+atDesk+
			"' type='error' id='m8'><error type='wait'><resource-constraint "+
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"+
			"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Slower, please.</text></error></message>"),
	}},
	{Name: "stream error", Steps: errs("conflict",
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>Replaced</text>")},
	{Name: "stream error with a condition of its own",
		Steps: errs("policy-violation", "<stanza-too-big xmlns='urn:xmpp:errors'/>")},
	{Name: "shutdown", Steps: errs("system-shutdown", "<reconnect xmlns='urn:posthouse:stream:1' after='12'/>")},
}
