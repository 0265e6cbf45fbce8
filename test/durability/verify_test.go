package durability

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/test/script"
)

// verify compares both parties' histories with what was sent and acknowledged, on a running node, and returns what is
// wrong. Of the histories it reads what came after the last time, or all of it.
func (l *load) verify(ctx context.Context, round int, whole bool) (violations []string, err error) {
	type result struct {
		violations []string
		err        error
	}
	results := make([]result, len(l.pairs))
	var all sync.WaitGroup
	for i, p := range l.pairs {
		all.Go(func() {
			if whole {
				p.known = nil
			}
			r := &results[i]
			if r.violations, r.err = l.verifyPair(ctx, p, round); r.err != nil {
				r.err = fmt.Errorf("pair %d: %w", p.number, r.err)
			}
		})
	}
	all.Wait()
	for _, r := range results {
		if r.err != nil {
			return nil, r.err
		}
		violations = append(violations, r.violations...)
	}
	return violations, nil
}

func (l *load) verifyPair(ctx context.Context, p *pair, round int) (violations []string, err error) {
	a, err := l.server.connect(ctx, p.sender())
	if err != nil {
		return nil, err
	}
	defer a.Cut()
	b, err := l.server.connect(ctx, p.recipient())
	if err != nil {
		return nil, err
	}
	defer b.Cut()
	after := ""
	if n := len(p.known); n > 0 {
		after = p.known[n-1].id
	}
	ofA, err := history(a, user(p.recipient()), after)
	if err != nil {
		return nil, err
	}
	ofB, err := history(b, user(p.sender()), after)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) {
		violations = append(violations, fmt.Sprintf("pair %d: ", p.number)+fmt.Sprintf(format, args...))
	}
	if !slices.Equal(ofA, ofB) {
		bad("the two histories differ: %d and %d messages", len(ofA), len(ofB))
	}
	p.known = append(p.known, ofA...)
	p.judge(bad)
	if len(violations) > 0 {
		return violations, nil
	}
	return violations, p.goOn(a, round, bad)
}

// judge compares the history with what was sent and acknowledged.
func (p *pair) judge(bad func(format string, args ...any)) {
	sent := map[string]bool{}
	for _, body := range p.sent {
		sent[body] = true
	}
	have := map[string]bool{}
	last := [2]int{}
	for i, m := range p.known {
		switch {
		case !sent[m.body]:
			bad("%q is there, and nobody sent it", m.body)
			continue
		case have[m.body]:
			bad("%s is there twice", m.body)
		case p.again:
			// Who sends again what was not acknowledged has sent everything in one order.
			if i >= len(p.sent) || m.body != p.sent[i] {
				bad("%s is in place %d, where it does not belong", m.body, i+1)
				return
			}
		default:
			// Nothing is missing between two messages but what came at the end of a round.
			x, y := parts(m.body)
			if x < last[0] || x == last[0] && y != last[1]+1 || x > last[0] && y != 1 {
				bad("%s comes after %d.%d", m.body, last[0], last[1])
			}
			last = [2]int{x, y}
		}
		have[m.body] = true
	}
	lost := 0
	promised := p.promised()
	for body := range promised {
		if !have[body] {
			lost++
		}
	}
	if lost > 0 {
		bad("%d of %d acknowledged messages are lost", lost, len(promised))
	}
	wrong, example := 0, ""
	for body, r := range p.receipts {
		if have[body] && (r.number > len(p.known) || p.known[r.number-1] != entry{r.id, body}) {
			wrong, example = wrong+1, fmt.Sprintf("%s as number %d with the stanza-id %s", body, r.number, r.id)
		}
	}
	if wrong > 0 {
		bad("%d messages were confirmed in another way than the history has them, such as %s", wrong, example)
	}
}

func parts(body string) (round, number int) {
	first, second, _ := strings.Cut(body, ".")
	round, _ = strconv.Atoi(first)
	number, _ = strconv.Atoi(second)
	return round, number
}

// goOn sends again what was not acknowledged, where the sender can do that without doubling, and one more message,
// and looks at the numbers that they are given.
func (p *pair) goOn(a *script.Client, round int, bad func(format string, args ...any)) error {
	if err := confirm(a); err != nil {
		return err
	}
	stored := len(p.known)
	if p.again {
		open := slices.Clone(p.unacknowledged())
		answers, err := p.sendAll(a, open)
		if err != nil {
			return err
		}
		for i, body := range open {
			number := len(p.sent) - len(open) + i + 1
			r := answers[i]
			if r.number != number || r.duplicate != (number <= stored) {
				bad("%s, sent again, was given the number %d, duplicate=%v; it is number %d, and %d were stored", body,
					r.number, r.duplicate, number, stored)
			}
			if r.duplicate {
				p.repeated++
			}
			if number <= stored && r.id != p.known[number-1].id {
				bad("%s, sent again, was given another stanza-id", body)
			}
		}
		stored = len(p.sent)
	}
	body := fmt.Sprintf("%d.1", round)
	p.sent = append(p.sent, body)
	answers, err := p.sendAll(a, []string{body})
	if err != nil {
		return err
	}
	if r := answers[0]; r.number != stored+1 || r.duplicate {
		bad("the next message has number %d, duplicate=%v, after %d messages", r.number, r.duplicate, stored)
	}
	return nil
}

// sendAll sends messages and waits for their confirmations, which come in the same order.
func (p *pair) sendAll(a *script.Client, bodies []string) (answers []receipt, err error) {
	var text strings.Builder
	for _, body := range bodies {
		text.WriteString(p.message(body))
	}
	if err := a.Write(text.String()); err != nil {
		return nil, err
	}
	for _, body := range bodies {
		n, _, err := a.Until(func(n *script.Element) bool { return n.Child(nsConfirm, "confirmed") != nil })
		if err != nil {
			return nil, fmt.Errorf("waiting for the confirmation of %s: %w", body, err)
		}
		c := n.Child(nsConfirm, "confirmed")
		if c.Attr("id") != body {
			return nil, fmt.Errorf("a confirmation of %q came instead of one of %q", c.Attr("id"), body)
		}
		answers = append(answers, p.confirmed(c))
		p.acked = append(p.acked, body)
	}
	return answers, nil
}

// entry is one message of a history.
type entry struct{ id, body string }

// history pages through the archive with another person (XEP-0313), from after a message on, "" for the beginning.
func history(a *script.Client, with, after string) ([]entry, error) {
	var all []entry
	for page := 0; ; page++ {
		id := fmt.Sprintf("h%d", page)
		next := ""
		if after != "" {
			next = "<after>" + after + "</after>"
		}
		fin, before, err := a.Request(id, "<iq type='set' id='"+id+
			"'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>"+
			"<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>"+with+
			"@localhost</value></field></x>"+
			"<set xmlns='http://jabber.org/protocol/rsm'><max>200</max>"+next+"</set></query></iq>")
		if err != nil {
			return nil, err
		}
		end := fin.Child("urn:xmpp:mam:2", "fin")
		if end == nil {
			return nil, fmt.Errorf("the history was refused:\n%v", fin)
		}
		for _, n := range before {
			if result := n.Child("urn:xmpp:mam:2", "result"); result != nil {
				body := result.Find("jabber:client", "body")
				if body == nil {
					return nil, fmt.Errorf("a result without body:\n%v", n)
				}
				after = result.Attr("id")
				all = append(all, entry{after, body.Text})
			}
		}
		if end.Attr("complete") == "true" {
			return all, nil
		}
	}
}
