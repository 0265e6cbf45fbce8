package durability

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/test/play"
)

// verify compares both parties' histories with what was acknowledged, on a running node, and returns what is wrong.
func (l *load) verify(ctx context.Context, round int) (violations []string, err error) {
	for pair := range l.pairs {
		a, err := l.house.connect(ctx, 2*pair)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", user(2*pair), err)
		}
		b, err := l.house.connect(ctx, 2*pair+1)
		if err != nil {
			a.Cut()
			return nil, fmt.Errorf("%s: %w", user(2*pair+1), err)
		}
		found, err := l.compare(pair, round, a, b)
		a.Cut()
		b.Cut()
		if err != nil {
			return nil, fmt.Errorf("pair %d: %w", pair, err)
		}
		violations = append(violations, found...)
	}
	return violations, nil
}

func (l *load) compare(pair, round int, a, b *play.Actor) (violations []string, err error) {
	bad := func(format string, args ...any) {
		violations = append(violations, fmt.Sprintf("pair %d: ", pair)+fmt.Sprintf(format, args...))
	}
	ofA, err := history(a, user(2*pair+1))
	if err != nil {
		return nil, err
	}
	ofB, err := history(b, user(2*pair))
	if err != nil {
		return nil, err
	}
	if !slices.Equal(ofA, ofB) {
		bad("the two histories differ: %d and %d messages", len(ofA), len(ofB))
	}
	have := map[string]bool{}
	last := [2]int{}
	for _, m := range ofA {
		if have[m.body] {
			bad("%s is there twice", m.body)
		}
		have[m.body] = true
		first, second, _ := strings.Cut(m.body, ".")
		x, _ := strconv.Atoi(first)
		y, _ := strconv.Atoi(second)
		if x < last[0] || x == last[0] && y != last[1]+1 || x > last[0] && y != 1 {
			bad("%s comes after %d.%d", m.body, last[0], last[1])
		}
		last = [2]int{x, y}
	}
	lost := 0
	for _, body := range l.acked[pair] {
		if !have[body] {
			lost++
		}
	}
	if lost > 0 {
		bad("%d of %d acknowledged messages are lost", lost, len(l.acked[pair]))
	}
	number, err := nextNumber(a, fmt.Sprintf("%d.1", round))
	if err != nil {
		return nil, err
	}
	if number != len(ofA)+1 {
		bad("the next message has number %d, after %d messages", number, len(ofA))
	}
	l.acked[pair] = append(l.acked[pair], fmt.Sprintf("%d.1", round))
	return violations, nil
}

// entry is one message of a history.
type entry struct{ id, body string }

// history pages through the archive with another person (XEP-0313).
func history(a *play.Actor, with string) ([]entry, error) {
	var all []entry
	after := ""
	for page := 0; ; page++ {
		id := fmt.Sprintf("h%d", page)
		next := ""
		if after != "" {
			next = "<after>" + after + "</after>"
		}
		fin, before, err := a.Request(id, "<iq type='set' id='"+id+"'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>"+
			"<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>"+with+"@localhost</value></field></x>"+
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

// nextNumber sends one more message and returns the number that it was given in its conversation.
func nextNumber(a *play.Actor, body string) (int, error) {
	if _, _, err := a.Request("confirm", "<iq type='set' id='confirm'><enable xmlns='urn:posthouse:confirm:1'/></iq>"); err != nil {
		return 0, err
	}
	number, _ := strconv.Atoi(strings.TrimPrefix(a.Name, "p"))
	if err := a.Write(fmt.Sprintf("<message to='%s@localhost' type='chat' id='%s'><body>%s</body></message>", user(number+1), body, body)); err != nil {
		return 0, err
	}
	n, _, err := a.Until(func(n *play.Node) bool { return n.Child("urn:posthouse:confirm:1", "confirmed") != nil })
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(n.Child("urn:posthouse:confirm:1", "confirmed").Attr("number"))
}
