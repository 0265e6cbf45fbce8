package main

import "bytes"

// splitter cuts what a server sends into top-level elements. It trusts the server to be well-formed: it is no parser,
// only as much of one as keeps the load generator cheap.
type splitter struct {
	buf   []byte
	start int // first byte not yet handed out
	scan  int // first byte not yet looked at
	depth int // open elements below the stream's root
}

// feed appends bytes that were read.
func (s *splitter) feed(p []byte) {
	if s.start > 0 && s.start == len(s.buf) {
		s.buf, s.scan, s.start = s.buf[:0], 0, 0
	} else if s.start > 16<<10 {
		n := copy(s.buf, s.buf[s.start:])
		s.buf, s.scan, s.start = s.buf[:n], s.scan-s.start, 0
	}
	s.buf = append(s.buf, p...)
}

// reset forgets everything: a new stream begins.
func (s *splitter) reset() { s.buf, s.start, s.scan, s.depth = s.buf[:0], 0, 0, 0 }

// next returns the next whole top-level element, a stream header or its end tag, or nil when more bytes are needed.
// The bytes are valid until the next feed.
func (s *splitter) next() []byte {
	for {
		lt := bytes.IndexByte(s.buf[s.scan:], '<')
		if lt < 0 {
			s.scan = len(s.buf)
			if s.depth == 0 {
				s.start = s.scan
			}
			return nil
		}
		open := s.scan + lt
		end := tagEnd(s.buf, open)
		if end < 0 {
			s.scan = open
			return nil
		}
		if s.depth == 0 {
			s.start = open
		}
		tag := s.buf[open : end+1]
		s.scan = end + 1
		switch {
		case tag[1] == '?':
			s.start = s.scan
			continue
		case bytes.HasPrefix(tag, []byte("<stream:stream")), bytes.HasPrefix(tag, []byte("</stream:stream")):
			s.start, s.depth = s.scan, 0
			return tag
		case tag[1] == '/':
			s.depth--
		case tag[len(tag)-2] != '/':
			s.depth++
		}
		if s.depth == 0 {
			out := s.buf[s.start:s.scan]
			s.start = s.scan
			return out
		}
	}
}

// tagEnd returns the index of the '>' that ends the tag at open, -1 when it is not there yet.
func tagEnd(b []byte, open int) int {
	for i := open + 1; i < len(b); i++ {
		switch b[i] {
		case '>':
			return i
		case '\'', '"':
			close := bytes.IndexByte(b[i+1:], b[i])
			if close < 0 {
				return -1
			}
			i += 1 + close
		}
	}
	return -1
}

// attr returns the value of an attribute in the element's first tag, "" when absent. Values with entities are not
// decoded.
func attr(element []byte, name string) string {
	end := tagEnd(element, 0)
	if end < 0 {
		return ""
	}
	tag := element[:end]
	for _, quote := range []string{"='", "=\""} {
		key := " " + name + quote
		if i := bytes.Index(tag, []byte(key)); i >= 0 {
			rest := tag[i+len(key):]
			if j := bytes.IndexByte(rest, quote[1]); j >= 0 {
				return string(rest[:j])
			}
		}
	}
	return ""
}

// text returns the character data between the element's first and last tag.
func text(element []byte) []byte {
	end := tagEnd(element, 0)
	last := bytes.LastIndexByte(element, '<')
	if end < 0 || last <= end {
		return nil
	}
	return element[end+1 : last]
}

// isElement reports whether the element has that name, with or without prefix.
func isElement(element []byte, name string) bool {
	rest, ok := bytes.CutPrefix(element, []byte("<"+name))
	return ok && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '>' || rest[0] == '/')
}
