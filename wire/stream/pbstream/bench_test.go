package pbstream

import (
	"bytes"
	"compress/flate"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

var benched = []struct{ name, xml string }{
	{"bare", bareMessage}, {"sent", sentMessage}, {"delivered", deliveredMessage}, {"carbon", carbonMessage},
	{"presence", presenceStanza},
}

func BenchmarkDecode(b *testing.B) {
	for _, test := range benched {
		b.Run(test.name, func(b *testing.B) {
			wire := Codec{}.AppendStanza(nil, fromXML(b, test.xml))
			d := openedDecoder(b, stream.Limits{})
			b.ReportAllocs()
			for b.Loop() {
				decodeOne(b, d, wire)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, test := range benched {
		b.Run(test.name, func(b *testing.B) {
			s := fromXML(b, test.xml)
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = Codec{}.AppendStanza(dst[:0], s)
			}
		})
	}
}

// BenchmarkDecodeXML is the same in XML, to compare with.
func BenchmarkDecodeXML(b *testing.B) {
	for _, test := range benched {
		b.Run(test.name, func(b *testing.B) {
			d := xmlstream.NewDecoder(stream.Limits{})
			d.Feed(xmlstream.XML{}.AppendOpen(nil, header))
			for {
				if _, err := d.Next(); err == stream.ErrMore {
					break
				}
			}
			wire := []byte(test.xml)
			b.ReportAllocs()
			for b.Loop() {
				d.Feed(wire)
				_, err := d.Next()
				if _, more := d.Next(); err != nil || more != stream.ErrMore {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncodeXML is the same in XML, to compare with.
func BenchmarkEncodeXML(b *testing.B) {
	for _, test := range benched {
		b.Run(test.name, func(b *testing.B) {
			s := fromXML(b, test.xml)
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = xmlstream.XML{}.AppendStanza(dst[:0], s)
			}
		})
	}
}

// BenchmarkDecodeGenerated is what the generated types need, up to their own form.
func BenchmarkDecodeGenerated(b *testing.B) {
	for _, test := range benched {
		b.Run(test.name, func(b *testing.B) {
			wire := Codec{}.AppendStanza(nil, fromXML(b, test.xml))
			prefix, _, failed := length(wire, 1<<20)
			require.Nil(b, failed)
			b.ReportAllocs()
			for b.Loop() {
				var f pb.Frame
				if err := proto.Unmarshal(wire[prefix:], &f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeflate is what compressing a frame would cost.
func BenchmarkDeflate(b *testing.B) {
	wire := Codec{}.AppendStanza(nil, fromXML(b, sentMessage))
	var out bytes.Buffer
	w, err := flate.NewWriterDict(&out, flate.BestSpeed, []byte(deflateDictionary))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		w.Reset(&out) // keeps the dictionary
		_, _ = w.Write(wire)
		_ = w.Close()
	}
}
