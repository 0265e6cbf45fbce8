package script

import (
	"fmt"
	"strconv"
)

// Break closes the connection without closing the stream, and returns what had come in and was not taken by Next.
// Handled does not change after it.
func (c *Client) Break() (rest []*Element) {
	c.conn.Close()
	for n := range c.inbox {
		rest = append(rest, n)
	}
	return rest
}

// Resume asks for a stream that this person had before (XEP-0198 §5), of which handled stanzas were received. It is
// called in place of Bind. It returns how many the server has handled. ok is false when there is nothing to resume: a
// resource can then be bound.
func (c *Client) Resume(stream string, handled uint32) (h uint32, ok bool, err error) {
	c.carried.Store(handled)
	if err := c.Write(fmt.Sprintf("<resume xmlns='%s' previd='%s' h='%d'/>", nsSM, stream, handled)); err != nil {
		return 0, false, err
	}
	n, _, err := c.Until(func(n *Element) bool { return n.Name.Space == nsSM })
	if err != nil {
		return 0, false, err
	}
	switch n.Name.Local {
	case "failed":
		return 0, false, nil
	case "resumed":
		count, err := strconv.ParseUint(n.Attr("h"), 10, 32)
		if err != nil || n.Attr("previd") != stream {
			return 0, false, fmt.Errorf("a wrong answer to a resumption:\n%v", n)
		}
		return uint32(count), true, nil
	}
	return 0, false, fmt.Errorf("waiting for a resumption, got:\n%v", n)
}
