package archive

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Namespaces of what the archive itself reads and writes.
const (
	nsStanzaID = payload.NSStanzaID
	nsCorrect  = payload.NSCorrect
	nsRetract  = payload.NSRetract
	nsModerate = payload.NSModerate
	nsDelay    = payload.NSDelay
	nsMAM      = payload.NSMAM
	nsForm     = payload.NSForms
	// nsPosition qualifies <position/>, our own: the number of a stored message in its conversation.
	// docs/protocol/confirm.md describes it.
	nsPosition = "urn:posthouse:position:1"
)

// A stanza-id is one AES block over the message's identity and a constant tag, as 22 characters of base64url:
// unpredictable and without meaning to anyone but this server (XEP-0359 §5, XEP-0313 §3), and without an index in
// the store. The tag is what tells an identity of ours from any other text: a guess succeeds with probability 2⁻⁶⁴.
const (
	blockSize      = aes.BlockSize
	stanzaIDLength = 22
	stanzaIDTag    = 0x706f_7374_686f_7573
)

// stanzaIDText is strict, so that one message has exactly one text.
var stanzaIDText = base64.RawURLEncoding.Strict()

func newBlock(key []byte) (cipher.Block, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, errors.New("archive: the stanza-id key must have 16 or 32 bytes")
	}
	return aes.NewCipher(key)
}

// maxNumber is the length of the largest number as text.
const maxNumber = 20

// StanzaID returns the stanza-id of a stored message.
func (a *Archive) StanzaID(id uint64) string {
	// One allocation holds the block and the text; nothing writes to it after this.
	buf := make([]byte, blockSize+stanzaIDLength)
	return a.writeStanzaID(buf, id)
}

// writeStanzaID makes the text in the beginning of buf, which belongs to the text from then on.
func (a *Archive) writeStanzaID(buf []byte, id uint64) string {
	binary.BigEndian.PutUint64(buf, id)
	binary.BigEndian.PutUint64(buf[8:], stanzaIDTag)
	a.block.Encrypt(buf[:blockSize], buf[:blockSize])
	text := buf[blockSize : blockSize+stanzaIDLength]
	stanzaIDText.Encode(text, buf[:blockSize])
	return unsafe.String(&text[0], stanzaIDLength)
}

// ParseStanzaID returns the message that a stanza-id names. ok is false for a text that this server never gave out.
// That the message exists, and may be seen by who asks, is for the caller to find out.
func (a *Archive) ParseStanzaID(text string) (id uint64, ok bool) {
	if len(text) != stanzaIDLength {
		return 0, false
	}
	var src [stanzaIDLength]byte
	copy(src[:], text)
	buf := make([]byte, blockSize)
	if n, err := stanzaIDText.Decode(buf, src[:]); err != nil || n != blockSize {
		return 0, false
	}
	a.block.Decrypt(buf, buf)
	var tag [8]byte
	binary.BigEndian.PutUint64(tag[:], stanzaIDTag)
	if subtle.ConstantTimeCompare(buf[8:], tag[:]) != 1 {
		return 0, false
	}
	id = binary.BigEndian.Uint64(buf)
	return id, id != 0
}

// Stamp adds to a packet with a stored message what the server says of it to the owner of the archive by: under which
// identity it is stored there (XEP-0313 §3.4), and which number it has in its conversation. It takes the place of any
// stanza-id that claims to be by the same archive, or by the archive of another account of this domain: that one must
// not be shown to others. A sent carbon is stamped for the sender. Without archived, the message is not in the archive
// of by: its number is told all the same, so that whoever looks for gaps finds none. seq is 0 for a marker, which has
// no number.
func (a *Archive) Stamp(p *stream.Packet, by jid.JID, seq uint64, archived bool) {
	claims := func(e *stanza.Element) bool { return e.Space == nsPosition || a.ownStanzaID(e, by) }
	for i := range p.Stanza.Payload {
		if claims(&p.Stanza.Payload[i]) {
			p.Stanza, p.Content = p.Stanza.Copy(), nil
			p.Stanza.Remove(claims)
			break
		}
	}
	// One allocation holds all of it; nothing writes to the texts after this.
	type stamp struct {
		elements [2]stanza.Element
		attrs    [3]stanza.Attr
		text     [blockSize + stanzaIDLength + maxNumber]byte
	}
	own := &stamp{}
	list := own.elements[:0]
	if archived {
		own.attrs[0] = stanza.Attr{Local: "by", Value: by.String()}
		own.attrs[1] = stanza.Attr{Local: "id", Value: a.writeStanzaID(own.text[:], p.ArchiveID)}
		list = append(list, stanza.Element{Space: nsStanzaID, Local: "stanza-id", Attrs: own.attrs[:2:2]})
	}
	if seq != 0 {
		number := strconv.AppendUint(own.text[blockSize+stanzaIDLength:][:0], seq, 10)
		own.attrs[2] = stanza.Attr{Local: "number", Value: unsafe.String(&number[0], len(number))}
		list = append(list, stanza.Element{Space: nsPosition, Local: "position", Attrs: own.attrs[2:]})
	}
	p.Own = list
}

// ownStanzaID reports whether e is a stanza-id by the given archive or another one of this domain's accounts.
func (a *Archive) ownStanzaID(e *stanza.Element, by jid.JID) bool {
	if e.Space != nsStanzaID || e.Local != "stanza-id" {
		return false
	}
	text := e.Attr("by")
	if text == by.String() {
		return true
	}
	claimed, err := jid.Parse(text)
	return err == nil && claimed.Domain() == a.domain.Domain()
}
