package script

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name, want, got string
		ok              bool
	}{
		{"same", "<message id='1'><body>x</body></message>", "<message id='1'><body>x</body></message>", true},
		{"other text", "<message><body>x</body></message>", "<message><body>y</body></message>", false},
		{"missing attribute", "<message id='1'/>", "<message/>", false},
		{"extra attribute", "<message/>", "<message id='1'/>", false},
		{"extra child", "<message/>", "<message><body>x</body></message>", false},
		{"missing child", "<message><body>x</body></message>", "<message/>", false},
		{"other namespace", "<message><a xmlns='u'/></message>", "<message><a xmlns='v'/></message>", false},
		{"etc", "<message><etc/><body>x</body></message>",
			"<message id='1'><a xmlns='u'/><body>x</body><b xmlns='u'/></message>", true},
		{"bound twice the same", "<message id='{x}'><body>{x}</body></message>",
			"<message id='1'><body>1</body></message>", true},
		{"bound twice different", "<message id='{x}'><body>{x}</body></message>",
			"<message id='1'><body>2</body></message>", false},
		{"any twice different", "<message id='{any}'><body>{any}</body></message>",
			"<message id='1'><body>2</body></message>", true},
		{"order", "<m><a/><b/></m>", "<m><b/><a/></m>", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := parse(c.want)
			require.NoError(t, err)
			got, err := parse(c.got)
			require.NoError(t, err)
			err = match(want, got, map[string]string{})
			require.Equal(t, c.ok, err == nil, "%v", err)
		})
	}
}
