package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// An app logs in, sends a message and is told its number in the conversation.
func ExampleClient_Send() {
	server := newFake()
	defer server.close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{
		Address: server.config().Address, // such as tls://chat.example.org:5223
		Domain:  "example.org", Username: "romeo",
		Device: server.config().Device, // made once, and kept
		Token:  server.config().Token,  // what Keep was given last; a first login has a Password
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	receipt, err := c.Send(ctx, jid.MustParse("juliet@example.org"),
		content.Content{Kind: content.Text, Text: "Good morrow"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("number", receipt.Number, "at", receipt.Time.Format(time.TimeOnly))
	// Output: number 1 at 08:00:00
}

// A bot answers what it is told. Handlers may wait for what they send.
func ExampleDial() {
	server := newFake()
	defer server.close()

	answered := make(chan struct{})
	ready := make(chan *client.Client, 1)
	config := server.config()
	config.Message = func(m client.Message) {
		if m.Outgoing || m.Content.Kind != content.Text {
			return
		}
		c := <-ready
		receipt, err := c.Send(context.Background(), m.Conversation,
			content.Content{Kind: content.Notice, Text: "You said: " + m.Content.Text})
		fmt.Println("number", m.Number, "answered by number", receipt.Number, err)
		close(answered)
	}
	c, err := client.Dial(context.Background(), config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ready <- c
	server.juliet("Art thou not Romeo?", true)
	<-answered
	// Output: number 1 answered by number 2 <nil>
}

// A program without a long connection calls the HTTP API, and waits there for what changes.
func ExampleAPI() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(
			w,
			`{"cursor": "c2", "messages": [{"number": 7, "from": "juliet@example.org", "content": {"kind": "text", "text": "Ay me"}}]}`)
	}))
	defer server.Close()

	api := &client.API{Base: server.URL, Tokens: client.Tokens{Access: "…"}} // or Login, or a service Key
	page, err := api.Sync(context.Background(), "c1", 100, 55*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range page.Messages {
		fmt.Println(m.Number, m.From, m.Content.Text)
	}
	// Output: 7 juliet@example.org Ay me
}
